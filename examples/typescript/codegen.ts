import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../graphql_schema/schema.graphql",
  documents: ["src/**/*.ts", "!src/graphql/**"],
  generates: {
    "src/graphql/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        // `strictScalars` fails on a scalar that is not named here. What each holds: docs/web-app.md, "Types".
        strictScalars: true,
        scalars: {
          BigInt: "number",
          Date: "string",
          DateTime: "string",
          URL: "string",
        },
        enumsAsTypes: true,
        useTypeImports: true,
      },
    },
  },
  emitLegacyCommonJSImports: false,
};

export default config;

// Runs the audits of graphql-http against a URL. Exit 1 on any error or warning; notices are told only.
import { auditServer } from 'graphql-http';

const url = process.argv[2];
if (!url) {
  console.error('usage: node audit.mjs URL');
  process.exit(2);
}

const counts = { ok: 0, notice: 0, warn: 0, error: 0 };
for (const result of await auditServer({ url })) {
  counts[result.status] += 1;
  if (result.status !== 'ok') {
    console.log(`${result.status} ${result.id} ${result.name}: ${result.reason}`);
    await result.response.body?.cancel();
  }
}
console.log(JSON.stringify(counts));
process.exitCode = counts.error + counts.warn > 0 ? 1 : 0;

-- Deployment: the API and the worker read the deployment's name before they do anything else.

grant execute on function private.deployment_name() to resguardo_api, resguardo_worker;

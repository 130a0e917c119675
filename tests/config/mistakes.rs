//! Files with one mistake each, and what is told about it.
//!
//! `SECRET` stands wherever somebody might put one; no message repeats it.

/// The file, and the whole message.
pub(crate) const MISTAKES: &[(&str, &str)] = &[
    (
        "cache.tttl = '1s'",
        "cache.tttl (inline): unknown key, did you mean cache.ttl?",
    ),
    (
        "[cahce]\nttl = '1s'",
        "cahce (inline): unknown key, did you mean cache?",
    ),
    (
        "valkey.url = 'redis://a'",
        "valkey (inline): unknown key, known here are server, admin, upstream, workspaces, \
         clients, anonymous, cache, redis, secrets, telemetry",
    ),
    (
        "redis.url = 'redis://a'",
        "redis (inline): encryption_key_file is missing",
    ),
    (
        "redis.url = 'redis://user:SECRET@a'\nredis.encryption_key_file = '/k'",
        "redis.url (inline): user information has no place in this URL; set username and password_file",
    ),
    (
        "redis.url = 'redis://a,b'\nredis.encryption_key_file = '/k'",
        "redis.url (inline): expected a URL: redis://HOST:PORT/DATABASE, \
         redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/MASTER, \
         or rediss with TLS, found \"redis://a,b\"",
    ),
    (
        "redis.url = 'redis://a'\nredis.encryption_key_file = ['/a', '/b', '/c']",
        "redis.encryption_key_file (inline): expected one file or two",
    ),
    (
        "workspaces.acme.api_key = 'SECRET'",
        "workspaces.acme.api_key (inline): unknown key, did you mean workspaces.acme.api_key_env?",
    ),
    (
        "cache = 5",
        "cache (inline): expected a table, found an integer",
    ),
    (
        "clients = []",
        "clients (inline): expected a table, found a list",
    ),
    (
        "cache.\"t\\nl\" = 1",
        "cache.\"t\\nl\" (inline): unknown key, did you mean cache.ttl?",
    ),
    (
        "telemetry.log_filter = ''",
        "telemetry.log_filter (inline): expected a filter such as \"info\" or \
         \"info,flameup_gateway=debug\", found \"\"",
    ),
    (
        "workspaces.acme = 'SECRET'",
        "workspaces.acme (inline): expected a table, found a string",
    ),
    (
        "server.listen = true",
        "server.listen (inline): expected a list of strings, found a boolean",
    ),
    (
        "cache.ttl = 'banana'",
        "cache.ttl (inline): expected a duration such as \"250ms\", \"60s\" or \"4m\", \
         found \"banana\"",
    ),
    (
        "cache.ttl = 60",
        "cache.ttl (inline): expected a duration such as \"250ms\", \"60s\" or \"4m\", \
         found \"60\"",
    ),
    (
        "cache.ttl = '0s'",
        "cache.ttl (inline): must be from 1ms to 24h, found 0s",
    ),
    (
        "cache.harvest = 'yes'",
        "cache.harvest (inline): expected a boolean, found a string",
    ),
    (
        "cache.events_invalidate = 1",
        "cache.events_invalidate (inline): expected a boolean, found an integer",
    ),
    (
        "cache.stale_if_error = '200h'",
        "cache.stale_if_error (inline): must be from 0s to 168h, found 200h",
    ),
    (
        "cache.max_bytes = '12 bananas'",
        "cache.max_bytes (inline): expected a size such as \"16KiB\" or \"64MiB\", \
         found \"12 bananas\"",
    ),
    (
        "cache.max_bytes = 1048576",
        "cache.max_bytes (inline): expected a size such as \"16KiB\" or \"64MiB\", \
         found \"1048576\"",
    ),
    (
        "server.limits.header_bytes = '4KiB'",
        "server.limits.header_bytes (inline): must be from 8KiB to 1MiB, found 4KiB",
    ),
    (
        "server.limits.connections = 0",
        "server.limits.connections (inline): must be from 1 to 1000000, found 0",
    ),
    (
        "server.limits.target_bytes = '64KiB'",
        "server.limits.target_bytes (inline): must be from 256B to 8KiB, found 64KiB",
    ),
    (
        "server.limits.send_timeout = '0s'",
        "server.limits.send_timeout (inline): must be from 1ms to 24h, found 0s",
    ),
    (
        "server.limits.h2_resets = 0",
        "server.limits.h2_resets (inline): must be from 1 to 1000000, found 0",
    ),
    (
        "server.workers = -1",
        "server.workers (inline): must be from 0 to 1024, found -1",
    ),
    (
        "cache.ttl_jitter = 0.6",
        "cache.ttl_jitter (inline): must be from 0 to 0.5, found 0.6",
    ),
    (
        "cache.ttl_jitter = nan",
        "cache.ttl_jitter (inline): must be from 0 to 0.5, found NaN",
    ),
    (
        "cache.email_case = 'lower'",
        "cache.email_case (inline): expected \"insensitive\" or \"exact\", found \"lower\"",
    ),
    (
        "telemetry.log_filter = 'a=loud'",
        "telemetry.log_filter (inline): expected a filter such as \"info\" or \
         \"info,flameup_gateway=debug\", found \"a=loud\"",
    ),
    (
        "server.listen = []",
        "server.listen (inline): the list is empty; name at least one address",
    ),
    (
        "server.listen = ['127.0.0.1:80', 'example.com:80']",
        "server.listen[1] (inline): expected \"IP:PORT\", \"localhost:PORT\" or \"unix:/path\", \
         found \"example.com:80\"",
    ),
    (
        "upstream.base_url = 'http://api.flameup.ai'",
        "upstream.base_url (inline): must be https, or http to loopback, as it carries the key; \
         found \"http://api.flameup.ai\"",
    ),
    (
        "upstream.base_url = 'https://api.flameup.ai/api/v1'",
        "upstream.base_url (inline): only scheme, host and port belong here, \
         found \"https://api.flameup.ai/api/v1\"",
    ),
    (
        "upstream.base_url = 'https://user:SECRET@api.flameup.ai'",
        "upstream.base_url (inline): user information has no place in this URL",
    ),
    (
        "upstream.connect_timeout = '6s'",
        "upstream.connect_timeout (inline): 6s is longer than upstream.timeout, 5s, \
         which includes it",
    ),
    (
        "upstream.ca_file = ''",
        "upstream.ca_file (inline): the path is empty; leave the key out to have none",
    ),
    (
        "workspaces.acme = { api_key_file = '/a', api_key_env = 'A' }",
        "workspaces.acme (inline): api_key_file and api_key_env are both set; keep one",
    ),
    (
        "[workspaces.acme]",
        "workspaces.acme (inline): no key; set api_key_file or api_key_env",
    ),
    (
        "workspaces.acme.api_key_file = '/nowhere/key'",
        "workspaces.acme.api_key_file (inline): unusable secret: reading /nowhere/key: \
         No such file or directory (os error 2)",
    ),
    (
        "workspaces.acme.api_key_file = 'ws_live_SECRET'",
        "workspaces.acme.api_key_file (inline): unusable secret: this is no name of a file; \
         name the place of the key, never the key itself",
    ),
    (
        "workspaces.acme.api_key_env = 'SECRET.SECRET'",
        "workspaces.acme.api_key_env (inline): unusable secret: this is no name of a variable; \
         name the place of the key, never the key itself",
    ),
    (
        "workspaces.acme.api_key_env = 'ACME_KEY'",
        "workspaces.acme.api_key_env (inline): unusable secret: environment variable ACME_KEY \
         is not set; set it, or configure another key in [workspaces.NAME]",
    ),
    (
        "workspaces.acme.api_key_env = ['A', 'SECRET', 'C']",
        "workspaces.acme.api_key_env (inline): expected one key or two, found 3",
    ),
    (
        "workspaces.acme.api_key_env = ['FLAMEUP_API_KEY', 'ws_live_SECRET']",
        "workspaces.acme.api_key_env (inline): unusable secret: this is no name of a variable; \
         name the place of the key, never the key itself",
    ),
    (
        "workspaces.acme.api_key_file = ''",
        "workspaces.acme.api_key_file (inline): a name is empty; leave the key out to have none",
    ),
    (
        "workspaces.acme.budget.requests = 60",
        "workspaces.acme (inline): no key; set api_key_file or api_key_env",
    ),
    (
        "workspaces.default.budget = 60",
        "workspaces.default.budget (inline): expected a table, found an integer",
    ),
    (
        "workspaces.default.budget.requests = 0",
        "workspaces.default.budget.requests (inline): must be from 1 to 1000000, found 0",
    ),
    (
        "workspaces.default.budget.window = '0s'",
        "workspaces.default.budget.window (inline): must be from 1s to 1h, found 0s",
    ),
    (
        "workspaces.default.budget.reserve = 1.5",
        "workspaces.default.budget.reserve (inline): must be from 0 to 0.9, found 1.5",
    ),
    (
        "workspaces.default.budget.max_wait = '61s'",
        "workspaces.default.budget.max_wait (inline): must be from 0s to 1m, found 61s",
    ),
    (
        "workspaces.'a b'.api_key_env = 'FLAMEUP_API_KEY'",
        "workspaces.\"a b\" (inline): expected a name of 1 to 64 letters, digits, _ or -, \
         found \"a b\"",
    ),
    (
        "workspaces.acme = { api_key_env = 'FLAMEUP_API_KEY', workspace_id = 'a/b' }",
        "workspaces.acme.workspace_id (inline): expected an id of 1 to 128 visible ASCII \
         characters without /, found \"a/b\"",
    ),
    (
        "anonymous.workspace = 'defualt'",
        "anonymous.workspace (inline): no workspace is named \"defualt\"; \
         did you mean \"default\"?",
    ),
    (
        "anonymous.scopes = ['people:read']",
        "anonymous (inline): workspace is missing",
    ),
    (
        "anonymous = { workspace = 'default', scopes = ['people:raed'] }",
        "anonymous.scopes[0] (inline): \"people:raed\" is not a scope, \
         did you mean \"people:read\"?",
    ),
    (
        "anonymous = { workspace = 'default', scopes = [] }",
        "anonymous.scopes (inline): the list is empty; name at least one",
    ),
    (
        "anonymous = { workspace = 'default', weight = 0 }",
        "anonymous.weight (inline): must be from 1 to 1000, found 0",
    ),
    (
        "clients.a.class = 'urgent'",
        "clients.a.class (inline): expected \"interactive\" or \"service\" or \"batch\", \
         found \"urgent\"",
    ),
    (
        "clients.a = { workspace = 'default', token_sha256 = ['SECRET'] }",
        "clients.a.token_sha256[0] (inline): expected the SHA-256 of a token, \
         64 hexadecimal digits",
    ),
    (
        "clients.a = { workspace = 'default' }",
        "clients.a (inline): token_sha256 is missing",
    ),
    (
        "server.listen = ['0.0.0.0:80']",
        "server.listen (inline): 0.0.0.0:80 is beyond loopback and no [clients.NAME] is \
         configured: it would lend the key to the network",
    ),
    (
        "server.listen = ['127.0.0.1:80', '0.0.0.0:80']\nanonymous.workspace = 'default'",
        "anonymous (inline): server.listen has 0.0.0.0:80, which is beyond loopback; anonymous \
         callers are possible only on loopback and Unix sockets, or with server.tls.client_ca_file",
    ),
    (
        "server.listen = ['systemd']",
        "server.listen (inline): systemd is beyond loopback and no [clients.NAME] is configured: \
         it would lend the key to the network",
    ),
    (
        "server.tls.cert_file = '/a'",
        "server.tls (inline): key_file is missing",
    ),
    (
        "server.tls = { cert_file = '', key_file = '/b' }",
        "server.tls.cert_file (inline): the path is empty; leave the key out to have none",
    ),
    (
        "server.proxy_protocol_from = ['10.0.0.7/8']",
        "server.proxy_protocol_from[0] (inline): \"10.0.0.7/8\" has bits set beyond its length; \
         did you mean \"10.0.0.0/8\" or \"10.0.0.7\"?",
    ),
    (
        "clients.a = { workspace = 'default', certificate_names = ['a'] }",
        "clients.a.certificate_names (inline): no certificate is asked for; \
         set server.tls.client_ca_file",
    ),
    (
        "clients.a = { workspace = 'default', certificate_names = ['a', ''] }",
        "clients.a.certificate_names (inline): a name is empty; leave the key out to have none",
    ),
    (
        "admin.listen = '0.0.0.0:9090'",
        "admin.listen (inline): 0.0.0.0:9090 is beyond loopback and needs admin.token_file; \
         set it, or listen on loopback, a Unix socket or \"off\"",
    ),
    (
        "[workspaces]\na.api_key_env = 'FLAMEUP_API_KEY'\nb.api_key_env = 'FLAMEUP_API_KEY'",
        "workspaces (inline): there are several, and no client; name one as workspace in \
         [anonymous], or configure [clients.NAME]",
    ),
    (
        "[workspaces]\na.api_key_env = 'FLAMEUP_API_KEY'\nb.api_key_env = 'FLAMEUP_API_KEY'\n\
         [anonymous]\nworkspace = 'a'",
        "workspaces.b (inline): its key is that of workspaces.a too, and Flameup's limit is per \
         key; keep one of the two sections",
    ),
    (
        "[workspaces]\na = { api_key_env = 'FLAMEUP_API_KEY', workspace_id = 'ws_1' }\n\
         b = { api_key_env = 'FLAMEUP_API_KEY', workspace_id = 'ws_1' }\n\
         [anonymous]\nworkspace = 'a'",
        "workspaces.b.workspace_id (inline): is that of workspaces.a too, and each would ask \
         for the same people again; keep one of the two sections, and give it the keys of both",
    ),
    (
        "[cache]\nttl = '1s'\nttl = \"SECRET",
        "inline:3:14: invalid basic string",
    ),
];

//! The shipped file equals the defaults; each bad file fails naming its key; no secret is shown.

#[path = "config/mistakes.rs"]
mod mistakes;

use std::error::Error as _;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flameup_gateway::config::{
    AccessLog, Budget, ByteSize, Class, Config, Environment, Error, ListenAddress, Loaded,
    LogFormat, Scope, SecretSource, Sources, Workspace,
};
use proptest::prelude::*;

use self::mistakes::MISTAKES;

const KEY: &str = "ws_test_acme1_k1.5ec2e75ec2e7";
const SHIPPED: &str = include_str!("../config/gateway.toml");

/// Loads TOML beside an environment that holds a key.
fn load(toml: &str) -> Result<Loaded, Error> {
    load_with(toml, &[])
}

fn load_with(toml: &str, variables: &[(&str, &str)]) -> Result<Loaded, Error> {
    let key = [("FLAMEUP_API_KEY", KEY)];
    let environment = key.iter().chain(variables).copied();
    Config::load(&Sources::inline(toml, environment))
}

fn config(toml: &str, variables: &[(&str, &str)]) -> Config {
    let loaded = load_with(toml, variables).map_err(|error| message(&error));
    loaded.expect("a configuration").config
}

/// The error with its causes, as the program prints it.
fn message(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}

fn refusal(result: Result<Loaded, Error>) -> String {
    message(&result.expect_err("a refusal"))
}

fn printed(loaded: &Loaded) -> String {
    let mut out = Vec::new();
    loaded.print(&mut out).expect("memory takes it");
    String::from_utf8(out).expect("text")
}

fn keys(workspace: &Workspace) -> Vec<&str> {
    let keys = workspace.api_keys.iter();
    keys.map(|(key, _)| key.expose()).collect()
}

fn default_budget() -> Budget {
    Budget {
        requests: 120,
        window: Duration::from_mins(1),
        reserve: 0.1,
        max_wait: Duration::from_secs(2),
    }
}

fn digest(digit: char) -> String {
    String::from(digit).repeat(64)
}

/// A file with this content, and the directory that keeps it.
fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    fs::write(&path, content).expect("written");
    (directory, path)
}

#[test]
fn the_key_alone_makes_a_working_sidecar() {
    let config = config("", &[]);
    let (name, workspace) = config.workspaces.first_key_value().expect("one workspace");
    assert_eq!(name.as_str(), "default");
    assert_eq!(keys(workspace), [KEY]);
    assert_eq!(workspace.budget, default_budget());
    let anonymous = config.anonymous.expect("anonymous callers");
    assert_eq!(anonymous.workspace, *name);
    assert_eq!((anonymous.class, anonymous.weight), (Class::Interactive, 1));
    assert!(anonymous.scopes.allows(Scope::PeopleRead));
    assert!(!anonymous.scopes.allows(Scope::PeopleList));
}

#[test]
fn the_shipped_file_equals_the_defaults() {
    let (shipped, default) = (config(SHIPPED, &[]), config("", &[]));
    assert_eq!(format!("{shipped:?}"), format!("{default:?}"));
}

#[test]
fn the_shipped_file_shows_every_key() {
    // A key unlike any other makes the loader list those it knows: ask it table by table.
    for table in [
        "server",
        "server.limits",
        "server.tls",
        "admin",
        "upstream",
        "workspaces.acme",
        "workspaces.acme.budget",
        "clients.billing",
        "clients.billing.limits",
        "anonymous",
        "anonymous.limits",
        "cache",
        "redis",
        "secrets",
        "telemetry",
    ] {
        let refusal = refusal(load(&format!("{table}.{} = 1", "q".repeat(40))));
        let known = refusal.split("known here are ").nth(1).expect("a list");
        for key in known.split(", ") {
            let shown = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} = ")) || line == format!("[{table}.{key}]")
            };
            let section = SHIPPED.split(&format!("[{table}]")).nth(1);
            let section = section.unwrap_or_else(|| panic!("no section [{table}]"));
            assert!(section.lines().any(shown), "{table}.{key} is not shown");
        }
    }
}

#[test]
fn the_examples_in_the_shipped_file_are_valid() {
    let (_directory, key) = file(KEY.as_bytes());
    let (_another, seal_key) = file("seal-".repeat(8).as_bytes());
    let examples = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.starts_with('[') || setting.contains(" = ") => setting,
            _ => line,
        })
        .filter(|line| !line.starts_with("api_key_env") && !line.starts_with("token_file"))
        .filter(|line| !line.starts_with("hash_key_file"))
        .map(|line| line.replace("/run/secrets/acme", &key.to_string_lossy()))
        .map(|line| line.replace("/run/secrets/l2-key", &seal_key.to_string_lossy()))
        .map(|line| line.replace("/run/secrets/l2-names-key", &seal_key.to_string_lossy()))
        .map(|line| line.replace("/run/secrets/redis-password", &key.to_string_lossy()))
        .collect::<Vec<_>>()
        .join("\n");
    let config = config(&examples, &[]);
    assert!(config.upstream.ca_file.is_some());
    // What the examples say where they may say nothing is what holds then.
    let (_, workspace) = config.workspaces.first_key_value().expect("one");
    assert_eq!(workspace.budget, default_budget());
    let (_, client) = config.clients.first_key_value().expect("one");
    assert_eq!((client.class, client.weight), (Class::Interactive, 1));
    let anonymous = config.anonymous.expect("anonymous callers");
    assert_eq!((anonymous.class, anonymous.weight), (Class::Interactive, 1));
}

#[test]
fn the_default_workspace_needs_no_key_source_to_have_a_budget() {
    let requests = (
        "FLAMEUP_GATEWAY__WORKSPACES__DEFAULT__BUDGET__REQUESTS",
        "60",
    );
    let section = "[workspaces.default.budget]\nrequests = 60";
    for (toml, variables) in [("", &[requests][..]), (section, &[])] {
        let loaded = load_with(toml, variables).expect("a configuration");
        let (name, workspace) = loaded.config.workspaces.first_key_value().expect("one");
        assert_eq!((name.as_str(), keys(workspace)), ("default", vec![KEY]));
        let expected = Budget {
            requests: 60,
            ..default_budget()
        };
        assert_eq!(workspace.budget, expected);
        let report = printed(&loaded);
        let derived = "# derived: the default workspace names no other key";
        let source = report.lines().find(|line| line.contains("api_key_env"));
        assert!(
            source.is_some_and(|line| line.ends_with(derived)),
            "{report}"
        );
        assert!(
            report.contains("workspaces.default.budget.window = \"60s\""),
            "{report}"
        );
    }
}

#[test]
fn callers_have_a_class_and_a_weight() {
    let toml = format!(
        "anonymous = {{ workspace = 'default', class = 'batch', weight = 1000 }}\n\
         [clients.a]\nworkspace = 'default'\ntoken_sha256 = '{}'\nclass = 'interactive'\n",
        digest('a')
    );
    let variables = [
        ("FLAMEUP_GATEWAY__CLIENTS__A__CLASS", "service"),
        ("FLAMEUP_GATEWAY__CLIENTS__A__WEIGHT", "3"),
    ];
    let config = config(&toml, &variables);
    let (_, client) = config.clients.first_key_value().expect("one");
    assert_eq!((client.class, client.weight), (Class::Service, 3));
    assert_eq!(client.class.to_string(), "service");
    let anonymous = config.anonymous.expect("anonymous callers");
    assert_eq!((anonymous.class, anonymous.weight), (Class::Batch, 1000));
}

#[test]
fn two_keys_overlap_during_a_rotation_and_files_are_read_again() {
    let (_a, old) = file(b"ws_test_old\n");
    let (_b, new) = file(b"ws_test_new\n");
    let listed = config(
        &format!("workspaces.acme.api_key_file = [{old:?}, {new:?}]"),
        &[],
    );
    let with_commas = format!("{},{}", old.display(), new.display());
    let variable = (
        "FLAMEUP_GATEWAY__WORKSPACES__ACME__API_KEY_FILE",
        &*with_commas,
    );
    for config in [listed, config("", &[variable])] {
        let (_, acme) = config.workspaces.first_key_value().expect("one");
        assert_eq!(keys(acme), ["ws_test_old", "ws_test_new"]);
        let sources = [
            SecretSource::File(old.clone()),
            SecretSource::File(new.clone()),
        ];
        assert!(acme.api_keys.iter().map(|(_, source)| source).eq(&sources));
    }
    let toml = format!("workspaces.acme.api_key_file = [{old:?}, {new:?}]");
    let loaded = load(&toml).expect("a configuration");
    let report = printed(&loaded);
    assert!(
        report.contains("workspaces.acme.api_key[1] = <redacted>"),
        "{report}"
    );
    let (_, acme) = loaded.config.workspaces.first_key_value().expect("one");
    fs::write(&new, "ws_test_newer").expect("written");
    let reloaded = acme.reload().expect("both keys");
    assert!(reloaded[0] == acme.api_keys[0].0 && reloaded[1] != acme.api_keys[1].0);
    assert_eq!(reloaded[1].expose(), "ws_test_newer");
    fs::write(&old, "").expect("written");
    let error = acme.reload().expect_err("no key in one file");
    assert_eq!(
        error.to_string(),
        format!("file {} is empty", old.display())
    );
}

#[test]
fn keys_from_the_environment_stay_as_they_are() {
    let toml = "workspaces.acme.api_key_env = ['NEXT', 'FLAMEUP_API_KEY']";
    let config = config(toml, &[("NEXT", "ws_test_next")]);
    let (_, acme) = config.workspaces.first_key_value().expect("one");
    assert_eq!(keys(acme), ["ws_test_next", KEY]);
    let reloaded = acme.reload().expect("both keys");
    assert!(acme.api_keys.iter().map(|(key, _)| key).eq(&reloaded));
}

#[test]
fn a_file_overrides_defaults_and_a_variable_overrides_the_file() {
    let variables = [
        ("FLAMEUP_GATEWAY__CACHE__TTL", "30s"),
        ("FLAMEUP_GATEWAY__server__limits__headers", "7"),
        (
            "FLAMEUP_GATEWAY__SERVER__LISTEN",
            "[::1]:80, unix:/run/g.sock",
        ),
        ("FLAMEUP_GATEWAY__CACHE__TTL_JITTER", "0"),
    ];
    let toml = "cache = { ttl = '20s', negative_ttl = '0s' }\ntelemetry.log_format = 'json'";
    let loaded = load_with(toml, &variables).expect("a configuration");
    assert_eq!(loaded.config.cache.ttl, Duration::from_secs(30));
    assert_eq!(loaded.config.cache.negative_ttl, Duration::ZERO);
    assert_eq!(loaded.config.cache.max_bytes, ByteSize::mib(256));
    assert_eq!(loaded.config.server.limits.headers, 7);
    assert_eq!(loaded.config.server.listen.len(), 2);
    assert_eq!(loaded.config.telemetry.log_format, LogFormat::Json);
    assert_eq!(loaded.config.telemetry.access_log, AccessLog::Errors);
    let report = printed(&loaded);
    for (setting, origin) in [
        (
            "cache.ttl = \"30s\"",
            "environment FLAMEUP_GATEWAY__CACHE__TTL",
        ),
        ("cache.negative_ttl = \"0s\"", "inline"),
        ("cache.max_bytes = \"256MiB\"", "default"),
        (
            "anonymous.workspace = \"default\"",
            "derived: no client is configured and every listener is local",
        ),
        (
            "workspaces.default.api_key = <redacted>",
            "environment FLAMEUP_API_KEY",
        ),
    ] {
        let line = format!("{setting:<56}  # {origin}");
        assert!(
            report.lines().any(|l| l == line),
            "{line}\nnot in\n{report}"
        );
    }
}

#[test]
fn variables_are_text_and_never_guessed_at() {
    let digests = format!("[\"{}\", \"{}\"]", digest('1'), digest('2'));
    let variables = [
        (
            "FLAMEUP_GATEWAY__WORKSPACES__0123__API_KEY_ENV",
            "FLAMEUP_API_KEY",
        ),
        ("FLAMEUP_GATEWAY__WORKSPACES__0123__WORKSPACE_ID", "0456"),
        ("FLAMEUP_GATEWAY__CLIENTS__TRUE__WORKSPACE", "0123"),
        ("FLAMEUP_GATEWAY__CLIENTS__TRUE__TOKEN_SHA256", &digests),
        (
            "FLAMEUP_GATEWAY__CLIENTS__TRUE__SCOPES",
            "people:read,people:write",
        ),
    ];
    let config = config("", &variables);
    let (name, workspace) = config.workspaces.first_key_value().expect("one");
    let id = workspace.workspace_id.as_ref().expect("an id");
    assert_eq!((name.as_str(), id.as_str()), ("0123", "0456"));
    let (name, client) = config.clients.first_key_value().expect("one");
    assert_eq!((name.as_str(), client.workspace.as_str()), ("true", "0123"));
    assert_eq!(client.token_sha256.len(), 2);
    assert!(client.scopes.allows(Scope::PeopleWrite));
    assert!(config.anonymous.is_none());
}

#[test]
fn a_variable_finds_a_name_whatever_its_case() {
    let toml = "[workspaces.Acme]\napi_key_env = 'NONE'";
    let variable = (
        "FLAMEUP_GATEWAY__WORKSPACES__ACME__API_KEY_ENV",
        "FLAMEUP_API_KEY",
    );
    let config = config(toml, &[variable]);
    let names: Vec<_> = config.workspaces.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["Acme"]);
}

#[test]
fn variables_that_are_not_unicode_matter_only_when_they_are_ours() {
    let odd = || OsString::from_vec(vec![0xff, 0xfe]);
    let with = |name: OsString| Sources {
        environment: [(name, odd()), ("FLAMEUP_API_KEY".into(), KEY.into())]
            .into_iter()
            .collect(),
        ..Sources::default()
    };
    assert!(Config::load(&with("PATH".into())).is_ok());
    assert!(Config::load(&with(odd())).is_ok());
    assert_eq!(
        refusal(Config::load(&with("FLAMEUP_GATEWAY__CACHE__TTL".into()))),
        "cache.ttl (environment FLAMEUP_GATEWAY__CACHE__TTL): the value is not Unicode"
    );
}

#[test]
fn the_argument_names_the_file_before_the_variable_does() {
    let (_a, by_argument) = file(b"cache.ttl = '1s'");
    let (_b, by_variable) = file(b"cache.ttl = '2s'");
    let variables = [
        ("FLAMEUP_API_KEY", KEY.into()),
        ("FLAMEUP_GATEWAY_CONFIG", by_variable.into_os_string()),
    ];
    let mut sources = Sources {
        file: Some(by_argument.clone()),
        inline: None,
        environment: variables.into_iter().collect::<Environment>(),
    };
    let ttl = |sources: &Sources| {
        let loaded = Config::load(sources).expect("a configuration");
        loaded.config.cache.ttl.as_secs()
    };
    assert_eq!(ttl(&sources), 1);
    let report = printed(&Config::load(&sources).expect("a configuration"));
    assert!(report.contains(&format!("# file {}\n", by_argument.display())));
    sources.file = None;
    assert_eq!(ttl(&sources), 2);
}

#[test]
fn secrets_are_read_from_files_without_their_line_break() {
    let (_a, key) = file(format!("{KEY}\r\n").as_bytes());
    let (_b, token) = file(b"0123456789abcdef \n");
    let toml = format!(
        "admin = {{ listen = '0.0.0.0:9090', token_file = {token:?} }}\n\
         [workspaces.acme]\napi_key_file = {key:?}\n",
    );
    let config = config(&toml, &[]);
    let (_, workspace) = config.workspaces.first_key_value().expect("one");
    assert_eq!(keys(workspace), [KEY]);
    assert_eq!(workspace.api_keys[0].1, SecretSource::File(key));
    let token = config.admin.token.expect("a token");
    assert_eq!(token.expose(), "0123456789abcdef");
}

#[test]
fn the_admin_listener_can_be_switched_off() {
    assert_eq!(config("admin.listen = 'off'", &[]).admin.listen, None);
    let socket = ListenAddress::Unix("/run/admin.sock".into());
    let config = config("admin.listen = 'unix:/run/admin.sock'", &[]);
    assert_eq!(config.admin.listen, Some(socket));
}

#[test]
fn anonymous_callers_beside_clients_are_legal_on_this_machine() {
    let toml = format!(
        "anonymous.workspace = 'default'\n\
         [clients.a]\nworkspace = 'default'\ntoken_sha256 = '{}'\n",
        digest('a')
    );
    let config = config(&toml, &[]);
    assert_eq!(config.clients.len(), 1);
    assert!(config.anonymous.is_some());
}

#[test]
fn a_listener_that_asks_for_certificates_may_be_open_to_the_network() {
    let tls = "server.listen = ['0.0.0.0:80', 'systemd']\nserver.tls.cert_file = '/a'\n\
               server.tls.key_file = '/b'\nserver.tls.client_ca_file = '/c'\n";
    let loaded = load(tls).expect("a configuration");
    assert!(loaded.config.anonymous.is_some());
    let report = printed(&loaded);
    let reason = "# derived: no client is configured and only certificates of \
                  server.tls.client_ca_file get in";
    assert!(report.contains(reason), "{report}");
    assert!(report.contains("server.tls.key_file = \"/b\""), "{report}");
    let client = format!(
        "{tls}anonymous.workspace = 'default'\n\
         [clients.a]\nworkspace = 'default'\ncertificate_names = 'a,b'\n"
    );
    let config = config(&client, &[]);
    assert_eq!(config.anonymous.map(|a| a.weight), Some(1));
    let (_, client) = config.clients.first_key_value().expect("one");
    assert_eq!(client.certificate_names, ["a", "b"]);
}

#[test]
fn each_mistake_is_told_in_one_line_with_its_key_and_origin() {
    for (toml, expected) in MISTAKES {
        assert_eq!(refusal(load(toml)), *expected, "for\n{toml}");
    }
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    for (variable, value, expected) in [
        (
            "FLAMEUP_GATEWAY__CACHE__TTTL",
            "1s",
            "cache.tttl (environment FLAMEUP_GATEWAY__CACHE__TTTL): unknown key, \
             did you mean cache.ttl?",
        ),
        (
            "FLAMEUP_GATEWAY__CACHE__TTL",
            "60",
            "cache.ttl (environment FLAMEUP_GATEWAY__CACHE__TTL): expected a duration such as \
             \"250ms\", \"60s\" or \"4m\", found \"60\"",
        ),
        (
            "FLAMEUP_GATEWAY__SERVER__LISTEN",
            "0.0.0.0:80",
            "server.listen (environment FLAMEUP_GATEWAY__SERVER__LISTEN): 0.0.0.0:80 is beyond \
             loopback and no [clients.NAME] is configured: it would lend the key to the network",
        ),
        (
            "FLAMEUP_GATEWAY__CACHE",
            "SECRET",
            "cache (environment FLAMEUP_GATEWAY__CACHE): expected a table, found a string",
        ),
    ] {
        assert_eq!(refusal(load_with("", &[(variable, value)])), expected);
    }
}

#[test]
fn a_variable_of_any_depth_is_only_an_unknown_key() {
    let deep = format!("FLAMEUP_GATEWAY__{}", "A__".repeat(50_000));
    let refusal = refusal(load_with("", &[(&deep, "1")]));
    assert!(
        refusal.starts_with("a.a.a.a.a.a.a.a (environment"),
        "{refusal:.100}"
    );
    assert!(refusal.ends_with("): unknown key, no key lies so deep"));
}

#[test]
fn a_token_for_two_clients_is_refused() {
    let client = |name| {
        let digest = digest('A');
        format!("[clients.{name}]\nworkspace = 'default'\ntoken_sha256 = '{digest}'\n")
    };
    assert_eq!(
        refusal(load(&(client("billing") + &client("crm")))),
        "clients.crm.token_sha256 (inline): a digest is already listed for client billing"
    );
}

#[test]
fn without_any_key_the_message_says_how_to_give_one() {
    let none: [(&str, &str); 0] = [];
    assert_eq!(
        refusal(Config::load(&Sources::inline("", none))),
        "workspaces.default.api_key_env (derived: no workspace is configured): unusable secret: \
         environment variable FLAMEUP_API_KEY is not set; set it, or configure another key in \
         [workspaces.NAME]"
    );
}

#[test]
fn unusable_secret_files_are_named_and_never_quoted() {
    for (content, problem) in [
        (String::new(), "is empty"),
        (" \n".to_owned(), "is empty"),
        (
            "SECRET\nSECRET\n".to_owned(),
            "holds characters no key has; expected one line of visible ASCII",
        ),
        (
            "SECRET SECRET".to_owned(),
            "holds characters no key has; expected one line of visible ASCII",
        ),
        (
            "SECRETé".to_owned(),
            "holds characters no key has; expected one line of visible ASCII",
        ),
        ("S".repeat(4097), "is longer than 4096 bytes"),
    ] {
        let (_directory, path) = file(content.as_bytes());
        let toml = format!("workspaces.acme.api_key_file = {path:?}");
        assert_eq!(
            refusal(load(&toml)),
            format!(
                "workspaces.acme.api_key_file (inline): unusable secret: file {} {problem}",
                path.display()
            )
        );
    }
    let (_directory, path) = file(b"SECRETSECRET");
    assert_eq!(
        refusal(load(&format!("admin.token_file = {path:?}"))),
        format!(
            "admin.token_file (inline): unusable secret: file {} is shorter than 16 characters",
            path.display()
        )
    );
}

#[test]
fn a_missing_file_and_a_broken_file_are_told_by_path() {
    let of = |path: &Path| Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    };
    assert_eq!(
        refusal(Config::load(&of(Path::new("/nowhere/gateway.toml")))),
        "reading the configuration file /nowhere/gateway.toml: \
         No such file or directory (os error 2)"
    );
    let (_directory, path) = file(b"[server]\nlisten = [\n");
    let expected = format!("file {}:3:1: ", path.display());
    let refusal = refusal(Config::load(&of(&path)));
    assert!(refusal.starts_with(&expected), "{refusal}");
    assert!(!refusal.contains('\n'), "{refusal}");
}

#[test]
fn no_secret_is_printed_or_told() {
    for (toml, _) in MISTAKES {
        let error = load(toml).expect_err("a refusal");
        let told = format!("{}{error:?}", message(&error));
        assert!(!told.contains("SECRET"), "{told}");
        assert!(!told.contains(KEY), "{told}");
    }
    let (_directory, token) = file(b"SECRETSECRETSECRET");
    let toml = format!(
        "admin.token_file = {token:?}\n\
         [clients.a]\nworkspace = 'default'\ntoken_sha256 = '{}'\n",
        digest('c')
    );
    let sources = Sources::inline(toml, [("FLAMEUP_API_KEY", KEY)]);
    let loaded = Config::load(&sources).expect("a configuration");
    let report = printed(&loaded);
    let shown = format!("{report}{loaded:?}{:?}", sources.environment);
    for secret in ["SECRET", KEY, "5ec2e7", &digest('c')] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(report.contains("admin.token = <redacted>"), "{report}");
    assert!(
        report.contains("token_sha256 = \"cccccccc...\""),
        "{report}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[a-z_.=\\[\\]{}\"'#0-9 \n,:/-]{0,80}|.{0,60}") {
        drop(load(&text));
    }

    #[test]
    fn no_value_makes_loading_panic(
        key in prop::sample::select(vec![
            "server.listen", "server.workers", "server.drain_timeout", "server.limits.body_bytes",
            "admin.listen", "upstream.base_url", "cache.max_bytes", "cache.ttl_jitter",
            "cache.ttl", "cache.email_case", "telemetry.log_filter", "anonymous.scopes",
            "workspaces.a.workspace_id", "workspaces.default.api_key_env",
            "workspaces.default.budget", "workspaces.default.budget.reserve", "clients.a.weight",
            "clients.a.token_sha256", "workspaces", "clients",
        ]),
        value in "[0-9a-z.:/\\[\\]@, -]{0,40}|.{0,40}",
    ) {
        let variable = format!("FLAMEUP_GATEWAY__{}", key.replace('.', "__"));
        drop(load_with("", &[(&variable, &value)]));
        drop(load(&format!("{key} = {}", serde_json::Value::from(value))));
    }
}

#[test]
fn the_environment_turns_things_on_and_off() {
    let variables = [
        ("FLAMEUP_GATEWAY__CACHE__ALIASES", "false"),
        ("FLAMEUP_GATEWAY__CACHE__EVENTS_INVALIDATE", "true"),
        ("FLAMEUP_GATEWAY__SECRETS__CORE_DUMPS", "true"),
    ];
    let config = config("", &variables);
    assert!(!config.cache.aliases && config.cache.harvest && config.cache.events_invalidate);
    assert!(config.secrets.core_dumps);
    let refused = refusal(load_with("", &[("FLAMEUP_GATEWAY__CACHE__ALIASES", "no")]));
    assert!(refused.contains("expected a boolean"), "{refused}");
}

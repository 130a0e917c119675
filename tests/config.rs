//! The shipped file equals the defaults; each bad file fails naming its key.

use flameup_gateway::config::{Config, Scope, Sources};

#[test]
fn the_key_alone_makes_a_working_sidecar() {
    let sources = Sources::inline("", [("FLAMEUP_API_KEY", "ws_test_a.b")]);
    let config = Config::load(&sources).expect("a configuration").config;
    let (name, workspace) = config.workspaces.first_key_value().expect("one workspace");
    assert_eq!(name.as_str(), "default");
    assert_eq!(workspace.api_key.expose(), "ws_test_a.b");
    let anonymous = config.anonymous.expect("anonymous callers");
    assert_eq!(anonymous.workspace, *name);
    assert!(anonymous.scopes.allows(Scope::PeopleRead));
    assert!(!anonymous.scopes.allows(Scope::PeopleList));
}

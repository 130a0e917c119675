//! The image, Compose, Kubernetes and Helm. There is no engine and no cluster in the tests: nothing is
//! built or started, only looked at.

use std::path::Path;

use super::{GATEWAY, command, printed, tool};

#[test]
fn the_dockerfile_has_nothing_to_object_to() {
    printed(command(tool("hadolint")).arg("deploy/Dockerfile"));
}

#[test]
fn all_yaml_is_tidy() {
    let yamllint = tool("yamllint");
    printed(command(yamllint).args(["--strict", "deploy", ".yamllint.yaml"]));
}

#[test]
fn the_chart_has_nothing_to_object_to() {
    for values in [
        "deploy/helm/flameup-gateway/values.yaml",
        "deploy/helm/example.yaml",
        "deploy/helm/example-redis.yaml",
    ] {
        let mut helm = command(tool("helm"));
        printed(helm.args([
            "lint",
            "--strict",
            "--quiet",
            "deploy/helm/flameup-gateway",
            "--values",
            values,
        ]));
    }
}

#[test]
fn manifests_fit_kubernetes_each_other_and_the_gateway() {
    let tools = tool("helm");
    let tools = tools.parent().expect("a directory");
    let mut script = command(tool("python3"));
    script.arg(Path::new("tests/deploy/manifests.py"));
    assert_eq!(printed(script.arg(GATEWAY).arg(tools)), "ok\n");
}

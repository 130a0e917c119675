"""Looks through what kustomize, Helm and Compose make of deploy/, beyond what their own tools and
Kubernetes' schemas say: that selectors meet the pods they are for, that the chart and the bases are
one, and that the gateway takes its configuration.

Run by tests/deploy/containers.rs, as `manifests.py GATEWAY TOOLS`, in the root of the project.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml

GATEWAY, TOOLS = sys.argv[1], pathlib.Path(sys.argv[2])
# Where manifests mount secrets; the gateway is shown a directory of our own in its place.
MOUNTED = "/run/secrets"


def main():
    bases = kustomize("example-egress")
    chart = helm("--values", "deploy/helm/example.yaml")
    shared = kustomize("example-redis")
    shared_chart = helm("--values", "deploy/helm/example-redis.yaml")
    sidecar = kustomize("example-sidecar")
    for manifests in (bases, chart, shared, shared_chart, sidecar, kustomize("egress"), helm()):
        for manifest in manifests:
            kubernetes_validate.validate(manifest, "1.37", strict=True)
    for manifests in (bases, chart):
        check_selectors(manifests)
        check_configuration({}, gateway_toml(manifests), accepted=True)
    check_shared(shared, shared_chart)
    check_one_pod(bases, chart, "flameup-gateway", "flameup-only")
    check_one_pod(shared, shared_chart, "flameup-gateway")
    check_configuration({}, gateway_toml(kustomize("egress")), accepted=False)
    check_configuration({}, gateway_toml(helm()), accepted=False)
    check_sidecar(sidecar)
    check_compose()
    print("ok")


def kustomize(name):
    return rendered("kubectl", "kustomize", f"deploy/kubernetes/{name}")


def helm(*options):
    return rendered("helm", "template", "flameup-gateway", "deploy/helm/flameup-gateway", *options)


def rendered(tool, *arguments):
    text = run([TOOLS / tool, *arguments]).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{command}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def only(manifests, kind, name="flameup-gateway"):
    found = [it for it in manifests if it["kind"] == kind and it["metadata"]["name"].startswith(name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def check_selectors(manifests):
    deployment = only(manifests, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    policy = only(manifests, "NetworkPolicy")["spec"]
    for selector in (
        deployment["selector"]["matchLabels"],
        only(manifests, "Service")["spec"]["selector"],
        only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
    ):
        assert selector and selector.items() <= labels, selector
    clients = policy["ingress"][0]["from"][0]["podSelector"]
    assert clients == {"matchLabels": {"flameup-gateway/client": "true"}}, clients
    others = only(manifests, "NetworkPolicy", "flameup-only")["spec"]["podSelector"]
    (expression,) = others["matchExpressions"]
    assert expression["operator"] == "NotIn", expression
    assert dict(labels)[expression["key"]] in expression["values"], expression
    scaled = only(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
    assert scaled == only(manifests, "Deployment")["metadata"]["name"], scaled
    assert "replicas" not in deployment, "what the autoscaler does would be undone"
    adapter = yaml.safe_load(pathlib.Path("deploy/kubernetes/autoscaling/adapter.yaml").read_text())
    metrics = only(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    wanted = [it["pods"]["metric"]["name"] for it in metrics if it["type"] == "Pods"]
    assert wanted == [rule["name"]["as"] for rule in adapter["rules"]], wanted


def check_shared(*ways):
    """Replicas that share a Redis may reach it, and are told how many they are."""
    told = []
    for manifests in ways:
        toml = gateway_toml(manifests)
        check_configuration({}, toml, accepted=True)
        redis = tomllib.loads(toml)["redis"]
        told.append(redis)
        port = int(redis["url"].rpartition(":")[2])
        assert only(manifests, "Deployment")["spec"]["replicas"] == redis["replicas"], redis
        egress = only(manifests, "NetworkPolicy")["spec"]["egress"]
        assert any({"port": port} in rule["ports"] for rule in egress), egress
    assert told[0] == told[1], told


def check_one_pod(bases, chart, *policies):
    """The same pod and the same network, whichever way it came about."""
    pods = []
    for manifests in (bases, chart):
        pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
        pod["volumes"][0]["configMap"]["name"] = "any"
        pod["containers"][0].pop("imagePullPolicy", None)
        pods.append([pod] + [only(manifests, "NetworkPolicy", name)["spec"] for name in policies])
    assert pods[0] == pods[1], json.dumps(pods, indent=1)


def gateway_toml(manifests):
    return only(manifests, "ConfigMap")["data"]["gateway.toml"]


def check_sidecar(manifests):
    pod = only(manifests, "Deployment", "shop")["spec"]["template"]["spec"]
    (gateway,) = pod["initContainers"]
    assert gateway["restartPolicy"] == "Always", "it would have to end before the pod starts"
    (shop,) = pod["containers"]
    assert "volumeMounts" not in shop, "the application would see the key"
    chart = helm_sidecar()
    gateway["image"] = chart[0]["image"]
    assert [gateway] == chart[:1], json.dumps([gateway, chart], indent=1)
    assert pod["volumes"] == chart[1:], json.dumps(pod["volumes"])
    check_configuration({it["name"]: it["value"] for it in gateway["env"]}, "", accepted=True)


def helm_sidecar():
    """The chart's named templates, as a chart that depends on it would include them."""
    with tempfile.TemporaryDirectory() as made:
        chart = pathlib.Path(made)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
        (chart / "templates").mkdir()
        named = pathlib.Path("deploy/helm/flameup-gateway/templates/_sidecar.tpl").read_text()
        (chart / "templates" / "_sidecar.tpl").write_text(named)
        includes = (
            "kind: Any\nboth:\n"
            '{{ include "flameup-gateway.sidecar" (dict "image" "any:1") | indent 2 }}\n'
            '{{ include "flameup-gateway.sidecar-volume" dict | indent 2 }}\n'
        )
        (chart / "templates" / "any.yaml").write_text(includes)
        (manifest,) = rendered("helm", "template", "shop", chart)
    return manifest["both"]


def check_compose():
    alone = compose("compose.yaml")["gateway"]
    check_configuration(alone["environment"], "", accepted=True)
    shared = compose("compose.yaml", "compose.redis.yaml")
    gateway, redis = shared["gateway"], shared["redis"]
    check_configuration(gateway["environment"], "", accepted=True)
    replicas = gateway["environment"]["FLAMEUP_GATEWAY__REDIS__REPLICAS"]
    assert gateway["deploy"]["replicas"] == int(replicas), replicas
    assert set(redis["networks"]) <= set(gateway["networks"]), "they cannot meet"
    assert len(gateway["ports"]) == 1 and gateway["ports"][0]["published"] == "8080-8082", gateway["ports"]


def compose(*files):
    """The services that Compose makes of these files, all of whose own files are there."""
    environment = {**os.environ, "CLIENT_TOKEN_SHA256": "0" * 64}
    chosen = [part for file in files for part in ("-f", f"deploy/{file}")]
    command = [TOOLS / "docker-compose", *chosen, "config", "--format", "json"]
    services = json.loads(run(command, env=environment).stdout)["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert pathlib.Path(volume["source"]).exists(), volume["source"]
    build = services["gateway"]["build"]
    dockerfile = pathlib.Path(build["context"]) / build["dockerfile"]
    assert dockerfile.exists(), dockerfile
    return services


def check_configuration(environment, toml, accepted):
    """Has the gateway judge a configuration, with secrets where it says that they are."""
    with tempfile.TemporaryDirectory() as made:
        secrets = pathlib.Path(made) / "secrets"
        for directory in (secrets, secrets / "flameup-gateway"):
            directory.mkdir()
            for name in ("flameup-api-key", "admin-token", "l2-key", "l2-names-key", "redis-password"):
                (directory / name).write_text("0123456789abcdef0123456789abcdef")
        moved = {name: value.replace(MOUNTED, str(secrets)) for name, value in environment.items()}
        file = pathlib.Path(made) / "gateway.toml"
        file.write_text(toml.replace(MOUNTED, str(secrets)))
        command = [GATEWAY, "check", "--config", file]
        done = subprocess.run(command, env=moved, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if accepted else 2), f"{toml}\n{done.stdout}\n{done.stderr}"
    if not accepted:
        assert "clients" in done.stderr, done.stderr


main()

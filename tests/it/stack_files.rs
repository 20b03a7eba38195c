//! What the stack files give to whom, read from the files themselves.

use std::path::Path;

use serde_json::Value;

/// The services of a stack file, with what they inherit.
fn services(file: &str) -> Vec<(String, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let stack: Value = serde_saphyr::from_str(&text).unwrap_or_else(|why| panic!("{file}: {why}"));
    let services = stack["services"].as_object().expect("services");
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

/// What a service is told to run.
fn role(service: &Value) -> &str {
    service["command"][0].as_str().expect("a role")
}

fn mounts_docker(service: &Value) -> bool {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    volumes.map(Value::to_string).any(|volume| volume.contains("docker"))
}

#[test]
fn no_edge_has_the_docker_socket_and_only_agents_have_it() {
    let roles: Vec<_> = services("docker-stack.yml")
        .iter()
        .map(|(_, service)| (role(service).to_owned(), mounts_docker(service)))
        .collect();
    let expected = [("agent", true), ("edge", false), ("sockets", false)];
    assert_eq!(roles, expected.map(|(role, has_it)| (role.to_owned(), has_it)));
}

#[test]
fn an_edge_is_nobody_and_writes_nothing_but_its_state() {
    for (name, service) in services("docker-stack.yml") {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        if role(&service) == "edge" {
            assert_eq!(service["user"], "65534:65534");
            let volumes =
                service["volumes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap());
            let writable: Vec<_> = volumes.filter(|volume| !volume.ends_with(":ro")).collect();
            assert_eq!(writable, ["state:/var/lib/hiveway"]);
        }
    }
}

#[test]
fn each_role_is_updated_with_the_new_task_first_and_is_checked() {
    for (name, service) in services("docker-stack.yml") {
        assert_eq!(service["deploy"]["mode"], "global", "{name}");
        assert_eq!(service["deploy"]["update_config"]["order"], "start-first", "{name}");
        assert_eq!(service["deploy"]["update_config"]["parallelism"], 1, "{name}");
        assert_eq!(service["healthcheck"]["test"][1], "/hiveway", "{name}");
        assert!(service.get("ports").is_none(), "a published port does not allow it: {name}");
    }
}

#[test]
fn whoever_faces_strangers_has_the_edges_key_alone_and_agents_are_on_no_applications_network() {
    for (name, service) in services("docker-stack.yml") {
        let has = |what: &str, list: &str| {
            service[list].as_array().is_some_and(|list| list.iter().any(|it| it == what))
        };
        let agent = role(&service) == "agent";
        assert_eq!(has("hiveway-agent", "secrets"), agent, "{name}");
        assert_eq!(has("hiveway-edge", "secrets"), role(&service) == "edge", "{name}");
        assert!(!(agent && has("hiveway", "networks")), "{name}");
    }
}

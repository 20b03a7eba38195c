//! How stack files are read.

use proptest::prelude::*;

use super::*;

fn labels_of(text: &str) -> Vec<String> {
    let declarations = declarations(text, "stack.yml").unwrap();
    let line = |it: &Declaration| -> Vec<String> {
        let shown = |(label, value): (&String, &String)| {
            let at = it.labels_at.get(label).expect("every label has a place");
            format!("{} {label}={value} {}:{}+{}", it.service.name, at.line, at.column, at.width)
        };
        it.service.labels.iter().map(shown).collect()
    };
    declarations.iter().flat_map(line).collect()
}

#[test]
fn both_forms_of_labels_are_read_with_their_places() {
    let text = "
services:
  web:
    deploy:
      labels:
        hiveway.port: 8080
        hiveway.https-redirect: true
        hiveway.path-regex: '^/a$$'
        traefik.enable: true
  api:
    deploy:
      labels:
        - hiveway.port=80
        - \"hiveway.host=a.test\"
  none:
";
    assert_eq!(
        labels_of(text),
        [
            "web hiveway.https-redirect=true 7:33+4",
            "web hiveway.path-regex=^/a$ 8:29+7",
            "web hiveway.port=8080 6:23+4",
            "api hiveway.host=a.test 14:25+6",
            "api hiveway.port=80 13:24+2",
        ]
    );
}

#[test]
fn ports_are_read_in_every_form() {
    let ports = |list: &str| {
        let text = format!("services:\n  a:\n    ports: {list}\n");
        let declaration = declarations(&text, "x").unwrap().remove(0);
        let shown = |port: &PublishedPort| (port.target, port.published, port.mesh);
        let ports: Vec<_> = declaration.service.ports.iter().map(shown).collect();
        (ports, declaration.is_partial)
    };
    assert_eq!(ports("[80]"), (vec![(80, None, true)], false));
    assert_eq!(ports("['8080:80/tcp']"), (vec![(80, Some(8080), true)], false));
    assert_eq!(ports("['127.0.0.1:8080:80']"), (vec![(80, Some(8080), true)], false));
    assert_eq!(
        ports("[{target: 80, published: \"8080\", mode: host, x: [1]}]"),
        (vec![(80, Some(8080), false)], false)
    );
    assert_eq!(ports("['8000-8010:8000-8010']"), (vec![], true));
    assert_eq!(ports("['${P:-81}:80']"), (vec![(80, Some(81), true)], false));
}

#[test]
fn a_file_without_services_has_none() {
    for text in ["version: '3'", "services:", "services: {}"] {
        assert_eq!(declarations(text, "x").unwrap(), [], "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(
        text in "(services:\n  a:\n    deploy:\n      labels:\n)?[ a-c:\\-\\[\\]{}\"'&*<|>\n$=ü]{0,40}",
    ) {
        let _ = declarations(&text, "x");
    }
}

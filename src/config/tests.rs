//! What options come to from all their sources.

use std::path::Path;

use proptest::prelude::*;

use super::*;

type Loaded = Result<(Config, Vec<Complaint>), ConfigErrors>;

fn pairs(lines: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (name, value) = line.trim().split_once('=').expect("a line is name=value");
        (name.to_owned(), value.to_owned())
    };
    lines.lines().filter(|line| !line.trim().is_empty()).map(pair).collect()
}

fn load(file: &str, env: &str, flags: &str) -> Loaded {
    let path = Path::new("etc/hiveway.toml");
    Config::read(Some((path, file)), &pairs(env), &pairs(flags).into_iter().collect())
}

fn good(file: &str, env: &str, flags: &str) -> Config {
    match load(file, env, flags) {
        Ok((config, warnings)) => {
            assert_eq!(warnings, []);
            config
        }
        Err(errors) => panic!("{errors}"),
    }
}

fn complaints(file: &str, env: &str, flags: &str) -> String {
    match load(file, env, flags) {
        Ok((_, warnings)) => ConfigErrors(warnings).to_string(),
        Err(errors) => errors.to_string(),
    }
}

fn defaults() -> Config {
    good("", "", "provider.kind=docker")
}

#[test]
fn without_a_file_an_edge_listens_on_80() {
    let config = defaults();
    let listeners: Vec<_> = config.listeners.iter().map(|it| (&*it.name, it.address)).collect();
    assert_eq!(listeners, [("web", "[::]:80".parse().unwrap())]);
    assert_eq!(config.admin.address, "[::]:9400".parse().unwrap());
    assert_eq!(config.dns.server, Some("127.0.0.11:53".parse().unwrap()));
}

/// What the variables of a stack file say, of all its services together.
fn of_stack(stack: &str) -> Config {
    let variables = stack.lines().filter_map(|line| line.trim().split_once(": "));
    let variables = variables.filter(|(name, _)| name.starts_with("HIVEWAY_"));
    let variables: Vec<_> =
        variables.map(|(name, value)| format!("{name}={}", value.trim_matches('"'))).collect();
    good("", &variables.join("\n"), "")
}

#[test]
fn the_stacks_add_a_listener_for_temporal_and_keep_those_for_the_web() {
    let single = of_stack(include_str!("../../docker-stack.single.yml"));
    let whole = of_stack(include_str!("../../docker-stack.yml"));
    let listener = |it: &Listener| (it.name.clone(), it.address.to_string(), it.default);
    let listeners = |config: &Config| config.listeners.iter().map(listener).collect::<Vec<_>>();
    let written = |(name, at, default): (&str, &str, bool)| (name.into(), at.into(), default);
    let expected = [("temporal", "[::]:7233", false), ("web", "[::]:80", true)];
    assert_eq!(listeners(&single), expected.map(written));
    let tls = ("websecure", "[::]:443", true);
    assert_eq!(
        listeners(&whole),
        expected.into_iter().chain([tls]).map(written).collect::<Vec<_>>()
    );
    for config in [single, whole] {
        let streams = config.listeners.iter().map(|it| it.max_streams);
        assert!(streams.eq(config.listeners.iter().map(|it| if it.default {
            1000
        } else {
            10_000
        })));
    }
}

#[test]
fn the_shortest_file_form_is_understood_and_paths_start_at_the_file() {
    let config = good(
        r#"
        [runtime]
        workers = 1

        [listeners.web]
        address = "127.0.0.1:8080"

        [provider]
        kind = "file"
        path = "services.toml"
        "#,
        "",
        "",
    );
    assert_eq!(config.runtime.workers, 1);
    assert_eq!(config.listeners[0].address, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.provider.kind, ProviderKind::File);
    assert_eq!(config.provider.path.as_deref(), Some(Path::new("etc/services.toml")));
    assert_eq!(config.dns.server, None);
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let file = "provider.kind = 'docker'\n[drain]\ndelay = '1s'\ntimeout = '1s'\n[limits]\nhead-fields = 7";
    let env = "HIVEWAY_DRAIN_DELAY=2s\nHIVEWAY_DRAIN_TIMEOUT=2s\nHOME=/root\nHIVEWAY_CONFIG=x";
    let config = good(file, env, "drain.timeout=3s");
    assert_eq!(config.drain.delay, Duration::from_secs(2));
    assert_eq!(config.drain.timeout, Duration::from_secs(3));
    assert_eq!(config.limits.head_fields, 7);
}

#[test]
fn variables_name_listeners_and_hosts_too() {
    let config = good(
        "[listeners.my_own]\naddress = '[::]:81'",
        "
        HIVEWAY_PROVIDER_KIND=docker
        HIVEWAY_LISTENERS_MY_OWN_MAX_STREAMS=5
        HIVEWAY_LISTENERS_TEMPORAL_ADDRESS=[::]:7233
        HIVEWAY_LISTENERS_TEMPORAL_DEFAULT=false
        HIVEWAY_LISTENERS_TEMPORAL_TRUSTED_PROXIES=10.0.0.0/8, ::1
        HIVEWAY_PROVIDER_HOSTS=*.shop.com=shop, x.test=x
        ",
        "",
    );
    let listeners: Vec<_> =
        config.listeners.iter().map(|it| (&*it.name, it.max_streams, it.default)).collect();
    assert_eq!(listeners, [("my_own", 5, true), ("temporal", 1000, false)]);
    assert_eq!(config.listeners[1].trusted_proxies.len(), 2);
    let hosts: Vec<_> =
        config.provider.hosts.iter().map(|(host, stacks)| format!("{host} {stacks:?}")).collect();
    assert_eq!(hosts, [r#"x.test ["x"]"#, r#"*.shop.com ["shop"]"#]);
}

const ALL_MISTAKES: &str = "\
error: `listeners.web.adress` is not an option of this version
  --> etc/hiveway.toml:2:1
   |
 2 | adress = \"[::]:80\"
   | ^^^^^^
   = help: did you mean `listeners.web.address`?

error: `listeners.web.address` is not an address with a port
  --> etc/hiveway.toml:3:11
   |
 3 | address = \":80\"
   |           ^^^^^
   = help: write an IP address and a port; an IPv6 address stands in brackets, and `[::]` is every address, for example `[::]:80`

error: `listeners.web.proxy-protocol` asks for what this version cannot do: read PROXY headers
  --> etc/hiveway.toml:4:18
   |
 4 | proxy-protocol = true
   |                  ^^^^
   = help: write `false`

error: `drain.delay` is not a duration
  --> etc/hiveway.toml:6:9
   |
 6 | delay = 5
   |         ^
   = help: write a whole number with its unit: `ms`, `s`, `m`, `h` or `d`, for example `10s`

error: `drain.timout` is not an option of this version
  --> environment variable HIVEWAY_DRAIN_TIMOUT
  = help: did you mean HIVEWAY_DRAIN_TIMEOUT?

error: `log.level` is not a word that is known here
  --> flag for `log.level`
  = help: write `error` or `warn` or `info` or `debug` or `trace`, for example `debug`";

#[test]
fn all_mistakes_come_at_once_each_with_its_place() {
    let file = r#"[listeners.web]
adress = "[::]:80"
address = ":80"
proxy-protocol = true
[drain]
delay = 5
"#;
    assert_eq!(complaints(file, "HIVEWAY_DRAIN_TIMOUT=1s", "log.level=debg"), ALL_MISTAKES);
}

#[test]
fn what_cannot_be_done_or_cannot_be_meant_is_refused() {
    for (file, part) in [
        ("provider.agents = ['10.0.9:9401']", "is not a name with a port"),
        ("provider.agents = ['tasks.agent']", "for example `tasks.agent:9401`"),
        ("provider.agents = []", "`provider.agents` has an empty entry"),
        ("provider.kind = 'file'", "`provider.path` names none"),
        ("listeners.web.proxy-protocol = true", "cannot do: read PROXY headers"),
        ("listeners.web.protocols = []", "`listeners.web.protocols` has an empty entry"),
        ("listeners.other.default = true", "listener `other` has no address"),
        ("listeners.a.address = '[::]:1'\nlisteners.b.address = '[::]:1'", "the same address"),
        ("listeners.\"a b\".address = '[::]:1'", "its name cannot be one"),
        ("listeners.web = 1", "`listeners.web` is not an option"),
        ("[[listeners]]", "a table within an array"),
        ("[limit]", "`limit` is not an option"),
        ("limits.head-size = '1KiB'", "write a size from 8KiB to 1MiB"),
        ("limits.stream-window = '4GiB'", "is out of bounds"),
        ("dns.interval-active = '0s'", "would ask without a pause"),
        ("provider.hosts.'a/b' = ['x']", "`provider.hosts.a/b` is not a host name"),
        ("provider.socket = 'tcp://10.0.0.1:2375'", "is not a unix socket"),
        ("a = ", "the file is not TOML"),
    ] {
        let flags = if file.contains("kind") { "" } else { "provider.kind=docker" };
        let result = load(file, "", flags);
        let errors = result.expect_err(file).to_string();
        assert!(errors.contains(part), "{file}: {errors}");
    }
}

#[test]
fn an_old_version_of_tls_is_refused() {
    assert!(complaints("tls.min-version = '1.1'", "", "").contains("`tls.min-version` is not"));
}

#[test]
fn without_a_listener_there_is_one_with_tls_once_there_is_a_certificate() {
    let check = |file: &str, has_certificate, expected: &[(&str, u16, bool)]| {
        let (config, _) = load(file, "", "provider.kind=docker").unwrap();
        let listeners = config.listeners(has_certificate);
        let listeners: Vec<_> =
            listeners.iter().map(|it| (&*it.name, it.address.port(), it.tls)).collect();
        assert_eq!(listeners, expected, "{file}");
    };
    check("", false, &[("web", 80, false)]);
    check("", true, &[("web", 80, false), ("websecure", 443, true)]);
    check("listeners.web.address = '[::]:81'", true, &[("web", 81, false)]);
    check("listeners.websecure.default = true", false, &[("websecure", 443, true)]);
}

#[test]
fn a_file_that_is_named_must_exist() {
    let file = Some("/nowhere/hiveway.toml".into());
    let errors = Config::load(&Sources { file, ..Sources::default() }).unwrap_err();
    assert!(errors.to_string().contains("--> /nowhere/hiveway.toml"), "{errors}");
}

#[test]
fn the_reference_file_is_the_table_of_options() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/hiveway.toml");
    assert_eq!(std::fs::read_to_string(file).unwrap(), options::reference());
}

#[test]
fn every_default_in_the_reference_file_is_what_holds_without_it() {
    let reference = options::reference();
    let is_option = |line: &&str| line.strip_prefix('#').is_some_and(|it| !it.starts_with(' '));
    let defaults_written = options::settings()
        .filter(|setting| matches!(setting.written, options::Sample::Default(_)));
    assert_eq!(reference.lines().filter(is_option).count(), defaults_written.count());
    let uncommented: Vec<&str> =
        reference.lines().map(|line| if is_option(&line) { &line[1..] } else { line }).collect();
    let (config, _) = load(&uncommented.join("\n"), "", "provider.kind=docker").unwrap();
    assert_eq!(config, defaults());
}

#[test]
fn every_example_in_the_reference_file_can_be_written() {
    for setting in options::settings() {
        let options::Sample::Example(example) = setting.written else { continue };
        let (table, key) = setting.name.rsplit_once('.').unwrap();
        let line = if key == "*" { example.to_owned() } else { format!("{key} = {example}") };
        let file = format!("[{}]\n{line}", table.replace('*', "web"));
        let flags = if setting.name == "provider.kind" { "" } else { "provider.kind=docker" };
        assert!(load(&file, "", flags).is_ok(), "{file}");
    }
}

proptest! {
    #[test]
    fn any_sources_are_read_without_a_panic(
        file in "(\\[(listeners|limits|provider)?\\.?[a-z]{0,3}\\]\n)?([a-z.-]{1,9} ?= ?[0-9a-z\"']{0,4}\n){0,4}",
        name in "HIVEWAY_(LISTENERS_|LIMITS_|PROVIDER_)?[A-Z_]{0,9}",
        text in "\\PC{0,8}",
    ) {
        let env = [(name, text)];
        let _ = Config::read(Some((Path::new("x.toml"), &file)), &env, &BTreeMap::new());
    }
}

use proptest::prelude::*;

use super::*;

fn secret(seed: u8) -> AgentSecret {
    AgentSecret::new([seed; KEY_LENGTH]).unwrap()
}

fn problem_of_agent(written: impl AsRef<[u8]>) -> Problem {
    AgentSecret::read(written.as_ref()).unwrap_err().problem
}

/// The text with its last character exchanged.
fn mistyped(text: &str) -> String {
    let last = if text.ends_with('0') { '1' } else { '0' };
    format!("{}{last}", &text[..text.len() - 1])
}

#[test]
fn the_form_and_the_derivation_of_secrets_never_change() {
    let agent = secret(7);
    let digits = "07".repeat(32);
    assert_eq!(agent.to_text(), format!("hiveway_agent_v1_{digits}4c3854fc"));
    // Seed, public key and checksum, as worked out with Python's hmac and OpenSSL.
    assert_eq!(
        agent.edge().to_text(),
        "hiveway_edge_v1_\
         4d293a73f5cb826f88eeec1ddf0a4900576b3edd179dd4f3a846cab2cbe75969\
         67fd1370af1808dcc111b9b7f9654ad0be2034783e7e414f55ee3d1851c37e66\
         98ee99ff"
    );
    assert_eq!(agent.edge().agents().fingerprint(), "f3efe615963fc937eee132c8da137608");
}

#[test]
fn an_edge_knows_the_agents_by_their_key_and_has_another_one_itself() {
    let agent = secret(7);
    let edge = agent.edge();
    assert_eq!(edge.agents().as_bytes().as_slice(), agent.key_pair().public_key().as_ref());
    assert_ne!(edge.public_key().unwrap(), edge.agents());
    assert_ne!(edge.agents(), secret(8).edge().agents());
    // Neither the agents' secret nor their seed is in what an edge holds.
    let seeds = [agent.bytes, derive(&agent.bytes, AGENTS).unwrap()];
    for seed in seeds {
        let digits = text::write(Role::Edge, &seed);
        assert!(!edge.to_text().contains(&digits[16..80]), "{digits}");
    }
}

#[test]
fn white_space_around_a_secret_does_not_count() {
    let text = secret(1).to_text();
    let read = AgentSecret::read(format!("\n {text}\r\n\n").as_bytes()).unwrap();
    assert_eq!(read.to_text(), text);
}

#[test]
fn what_is_no_secret_is_told_apart() {
    let text = secret(1).to_text();
    let length = text.len();
    assert_eq!(problem_of_agent(""), Problem::Empty);
    assert_eq!(problem_of_agent(" \n"), Problem::Empty);
    assert_eq!(problem_of_agent([0xff, 0xfe, b'h', 0]), Problem::NotText);
    assert_eq!(problem_of_agent("correct horse battery staple"), Problem::Foreign);
    assert_eq!(problem_of_agent(secret(1).edge().to_text()), Problem::OtherRole);
    assert_eq!(problem_of_agent(text.replace("v1", "v2")), Problem::OtherVersion);
    assert_eq!(problem_of_agent(format!("{text}\n{text}")), Problem::Interrupted);
    let short = Problem::Length { found: length - 1, expected: length };
    assert_eq!(problem_of_agent(&text[..length - 1]), short);
    let long = Problem::Length { found: length + 1, expected: length };
    assert_eq!(problem_of_agent(format!("{text}0")), long);
    assert_eq!(
        problem_of_agent("hiveway_agent_v1_0"),
        Problem::Length { found: 18, expected: length }
    );
    assert_eq!(problem_of_agent(text.replacen("01", "0l", 1)), Problem::Digit { at: 19 });
    assert_eq!(problem_of_agent(text.replacen("01", "0ü", 1)), Problem::Digit { at: 19 });
    assert_eq!(problem_of_agent(mistyped(&text)), Problem::Mistyped);
    let renamed = text.replace("agent", "edge");
    assert_eq!(problem_of_agent(renamed), Problem::OtherRole);
}

#[test]
fn an_error_says_what_is_wrong_and_what_belongs_there_and_what_to_do() {
    let agent = secret(1);
    let told = EdgeSecret::read(agent.to_text().as_bytes()).unwrap_err().to_string();
    assert_eq!(
        told,
        "it holds the agents' secret (`hiveway-agent`), and the edges' secret (`hiveway-edge`) \
         belongs there; `hiveway token` makes a new pair of secrets"
    );
    let told = AgentSecret::read(b"0123456789").unwrap_err().to_string();
    assert!(told.starts_with("it does not begin with `hiveway_agent_v1_`"), "{told}");
}

#[test]
fn no_secret_is_shown_for_debugging() {
    let agent = secret(0xab);
    let shown = format!("{agent:?} {:?}", agent.edge());
    assert!(!shown.contains("171, 171"), "{shown}");
    assert!(!shown.contains("abab"), "{shown}");
    let seed = format!("{:?}", agent.edge().seed);
    assert!(!shown.contains(seed.trim_matches(['[', ']'])), "{shown}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(random: [u8; KEY_LENGTH]) {
        let agent = AgentSecret::new(random).unwrap();
        let again = AgentSecret::read(agent.to_text().as_bytes()).unwrap();
        prop_assert_eq!(again.bytes, random);
        let edge = EdgeSecret::read(agent.edge().to_text().as_bytes()).unwrap();
        prop_assert_eq!(edge.seed, agent.edge().seed);
        prop_assert_eq!(edge.agents(), agent.edge().agents());
    }

    #[test]
    fn one_wrong_character_is_always_noticed(seed: u8, at in 0..89_usize, to in "[0-9a-zA-Z_ ]") {
        let text = secret(seed).to_text();
        let mut wrong = text.clone();
        wrong.replace_range(at..=at, &to);
        prop_assume!(!wrong.trim().eq_ignore_ascii_case(&text));
        prop_assert!(AgentSecret::read(wrong.as_bytes()).is_err());
    }

    #[test]
    fn whatever_is_read_there_is_an_answer(written: Vec<u8>, text in "(hiveway_(agent|edge)_v1_)?\\PC*") {
        for bytes in [&written[..], text.as_bytes()] {
            let told = AgentSecret::read(bytes).err().map(|error| error.to_string());
            prop_assert!(told.is_some_and(|told| told.contains("`hiveway token`")));
            prop_assert!(EdgeSecret::read(bytes).is_err());
        }
    }
}

//! One run of a corpus: the edge, the replica that keeps everything, and the innocent client.

use std::time::Duration;

use super::case::{Case, Expected};
use super::recorder::{Recorder, Seen};
use crate::support::{Ingress, Wire, service};

/// How long a case may take. A connection that hangs is a wrong answer, not a broken test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// Routes that a path could walk around: nobody here may ask `/admin` or the exact `/secret`.
const LABELS: &str = "hiveway.host=shop.test \
    hiveway.routes.admin.path=/admin hiveway.routes.admin.allow=10.0.0.0/8 \
    hiveway.routes.secret.path-exact=/secret hiveway.routes.secret.allow=10.0.0.0/8 \
    hiveway.routes.strip.path=/strip hiveway.routes.strip.strip-prefix=true";

pub(crate) struct Trial {
    pub(crate) ingress: Ingress,
    recorder: Recorder,
    /// The innocent client's connection; made anew should it break.
    canary: Wire,
    canaries: usize,
    /// The numbers of the requests whose answers clients got.
    answered: Vec<usize>,
    failures: Vec<String>,
}

/// What came of one case.
#[derive(Default)]
pub(crate) struct Outcome {
    /// As in the cases: `400 bad_host`, and in the end `goes on` or `closes`.
    pub(crate) came: Vec<String>,
    /// What is wrong whatever was expected.
    pub(crate) wrong: Vec<String>,
}

impl Trial {
    pub(crate) async fn new(options: &str) -> Self {
        let recorder = Recorder::new().await;
        let services = [service("shop", LABELS, &[recorder.address()])];
        let ingress = Ingress::with_options(options, services).await;
        let canary = Wire::to(ingress.address).await;
        let (answered, failures) = (Vec::new(), Vec::new());
        Self { ingress, recorder, canary, canaries: 0, answered, failures }
    }

    /// Runs all cases, each between two canaries.
    pub(crate) async fn run(
        mut self,
        cases: Vec<Case>,
        replay: impl AsyncFn(&mut Self, &Case) -> Outcome,
    ) {
        assert!(!cases.is_empty());
        for case in &cases {
            self.innocent(case).await;
            let first = self.recorder.count();
            let mut outcome = replay(&mut self, case).await;
            if !case.expects(&outcome.came) {
                outcome.wrong.push(format!("    < {}", outcome.came.join(", ")));
            }
            self.check_seen(case, first, &mut outcome);
            if !outcome.wrong.is_empty() {
                self.failures.push(case.failure(&outcome.wrong.join("\n")));
            }
            self.innocent(case).await;
        }
        self.settle(cases.len());
    }

    /// The number and the bytes of the next canary.
    pub(crate) fn next_canary(&mut self) -> (String, String) {
        self.canaries += 1;
        let path = format!("/canary/{}", self.canaries);
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        (path, bytes)
    }

    /// The answer that the replica gave to the request of that number; a HEAD has none to read.
    pub(crate) fn line_of(&self, number: &str) -> String {
        let seen = number.parse().map(|number| self.recorder.since(number));
        let line = seen.ok().and_then(|seen| seen.first().map(|seen| seen.line.clone()));
        format!("#{number} {}", line.unwrap_or_default())
    }

    /// An answer of the replica, by its body: `#7 GET /`. Says which request it answers; it must be
    /// one that came.
    pub(crate) fn note_answer(&mut self, body: &str) -> Result<String, String> {
        let (number, line) = body.split_once(' ').ok_or("an answer of nobody's")?;
        let number: usize = number.trim_start_matches('#').parse().map_err(|_| body.to_owned())?;
        let seen = self.recorder.since(number);
        let matches = seen.first().is_some_and(|seen| seen.line == line && seen.whole);
        self.answered.push(number);
        if matches { Ok(line.to_owned()) } else { Err(format!("a mixed answer: {body}")) }
    }

    /// An innocent client's request on a connection of its own.
    async fn innocent(&mut self, case: &Case) {
        let (path, bytes) = self.next_canary();
        self.canary.write(bytes).await;
        let reply = tokio::time::timeout(PATIENCE, self.canary.reply()).await;
        let line = reply.map_err(|_| "no answer".to_owned()).and_then(|reply| {
            if reply.status() != 200 {
                return Err(reply.to_string());
            }
            self.note_answer(&reply.body)
        });
        if line != Ok(format!("GET {path} HTTP/1.1")) {
            self.failures.push(case.failure(&format!("    an innocent client got {line:?}")));
            self.canary = Wire::to(self.ingress.address).await;
        }
    }

    fn check_seen(&self, case: &Case, first: usize, outcome: &mut Outcome) {
        let seen = self.recorder.since(first).into_iter();
        let seen: Vec<_> =
            seen.filter(|seen| !seen.line.contains(" /canary/") && !seen.is_of_flood()).collect();
        // Of what breaks off a part may have been on its way, or none.
        let (whole, begun): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.whole);
        let may_begin =
            |line: &str| case.seen.iter().any(|known| known.line == format!("begins {line}"));
        let expected = case.seen.iter().filter(|seen| !seen.line.starts_with("begins "));
        let expected: Vec<_> = expected.collect();
        let same = whole.len() == expected.len()
            && whole.iter().zip(&expected).all(|(seen, expected)| matches(seen, expected));
        if !same || begun.iter().any(|seen| !may_begin(&seen.line)) {
            let came: Vec<_> = seen.iter().map(Seen::show).collect();
            outcome.wrong.push(format!("  the replica saw\n{}", came.join("\n")));
        }
    }

    /// Over the whole run: the replica saw all of exactly those requests that were answered. How much
    /// of a flood it sees before its connection ends is not told.
    fn settle(mut self, cases: usize) {
        let seen = self.recorder.since(0);
        let counts = |number: &usize| seen[*number].whole && !seen[*number].is_of_flood();
        let whole: Vec<_> = (0..seen.len()).filter(counts).collect();
        self.answered.sort_unstable();
        self.answered.retain(|number| !seen[*number].is_of_flood());
        if whole != self.answered {
            self.failures.push(format!("seen were {whole:?}, answered {:?}", self.answered));
        }
        self.failures.extend(self.recorder.violations());
        let count = self.failures.len();
        assert!(count == 0, "{count} of {cases} cases:\n\n{}\n", self.failures.join("\n\n"));
        assert!(self.answered.len() > 2 * cases, "not even the canaries were counted");
    }
}

/// How an answer is written in the cases. Our own say why: `400 Bad Request (bad_host)`.
pub(crate) fn describe(status: &str, body: &str) -> String {
    let reason = body.lines().next().and_then(|line| line.rsplit_once(" ("));
    let reason = reason.map(|(_, word)| format!(" {}", word.trim_end_matches(')')));
    format!("{status}{}", reason.unwrap_or_default())
}

fn matches(seen: &Seen, expected: &Expected) -> bool {
    seen.line.as_bytes() == super::case::unescape(&expected.line)
        && expected.details.iter().all(|detail| match detail.split_at(1) {
            ("!", name) => seen.names(name) == 0,
            ("|", body) => seen.body == super::case::unescape(body.trim_start_matches(' ')),
            _ => {
                let name = detail.split(':').next().unwrap_or_default();
                seen.has(detail) && seen.names(name) == 1
            }
        })
}

//! The scenarios, as data: what happens to which service, and what that may cost.

use std::fmt;
use std::time::Duration;

use Event::{FailedUpdate, Force, Image, Kill, Remove, Rollback, Scale};
use Order::{StartFirst, StopFirst};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `docker service update --force`.
    Force,
    /// `docker service update --image`, with another image.
    Image,
    /// `docker service rollback`, of an update that is complete.
    Rollback,
    /// An update to a version that ends as soon as it starts, with `failure_action: rollback`.
    FailedUpdate,
    /// `docker service scale`, to each number in turn.
    Scale(&'static [u32]),
    /// `kill -9` of the process of one task.
    Kill,
    /// `docker rm -f` of one task's container.
    Remove,
}

/// What the old and the new task do in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    StopFirst,
    StartFirst,
}

impl Order {
    /// As the `docker` command has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::StopFirst => "stop-first",
            Self::StartFirst => "start-first",
        }
    }
}

/// How a replica behaves; see `examples/replica`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Listens at once, finishes what it has begun.
    Quick,
    /// Listens 15 s after its start.
    Slow,
    /// Closes connections that were idle for 2 s.
    Idle,
    /// Ends at once on SIGTERM.
    Dying,
}

impl Kind {
    /// What the replica is told.
    pub(crate) fn environment(self) -> &'static [&'static str] {
        match self {
            Self::Quick => &[],
            Self::Slow => &["REPLICA_START_DELAY=15s"],
            Self::Idle => &["REPLICA_IDLE=2s"],
            Self::Dying => &["REPLICA_ON_SIGTERM=die"],
        }
    }

    /// Time between the start of a replica and when it listens.
    pub(crate) fn start_delay(self) -> Duration {
        if self == Self::Slow { Duration::from_secs(15) } else { Duration::ZERO }
    }
}

/// What an event may cost where Hiveway takes the traffic. Whatever it is, no POST runs twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayLose {
    /// Not one request.
    Nothing,
    /// POSTs that were under way to the replica that died, at that moment: they may have run.
    UnderWay,
    /// 503 while the service wants no task at all.
    WhileNoneIsWanted,
    /// What the words say.
    Stated(&'static str),
}

/// One service, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) event: Event,
    pub(crate) order: Order,
    /// Whether the image's HEALTHCHECK is left on.
    pub(crate) healthcheck: bool,
    pub(crate) replicas: u32,
    pub(crate) kind: Kind,
    /// Time until Swarm replaces a task that ended by itself.
    pub(crate) restart_delay: &'static str,
    pub(crate) may_lose: MayLose,
}

/// The usual: a service of that many quick replicas with a HEALTHCHECK, which loses nothing.
const fn case(event: Event, order: Order, replicas: u32) -> Case {
    Case {
        event,
        order,
        healthcheck: true,
        replicas,
        kind: Kind::Quick,
        restart_delay: "1s",
        may_lose: MayLose::Nothing,
    }
}

impl Case {
    const fn without_healthcheck(self) -> Self {
        Self { healthcheck: false, ..self }
    }

    const fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    const fn may_lose(self, may_lose: MayLose) -> Self {
        Self { may_lose, ..self }
    }

    /// What a table calls the event.
    pub(crate) fn name(&self) -> String {
        match self.event {
            Force => "forced update".to_owned(),
            Image => "another image".to_owned(),
            Rollback => "rollback by hand".to_owned(),
            FailedUpdate => "update that fails and rolls itself back".to_owned(),
            Scale(to) => {
                let to = to.iter().map(|count| format!(" -> {count}"));
                format!("scale {}{}", self.replicas, to.collect::<String>())
            }
            Kill => format!("`kill -9`, restart delay {}", self.restart_delay),
            Remove => format!("`docker rm -f`, restart delay {}", self.restart_delay),
        }
    }

    /// What a table says of the service: order, health, replicas, kind.
    pub(crate) fn service(&self) -> String {
        let health = if self.healthcheck { "HEALTHCHECK" } else { "no HEALTHCHECK" };
        let kind = match self.kind {
            Kind::Quick => "",
            Kind::Slow => ", listening after 15 s",
            Kind::Idle => ", closing idle connections after 2 s",
            Kind::Dying => ", ending at once on SIGTERM",
        };
        let order = match self.event {
            Scale(_) | Kill | Remove => String::new(),
            Force | Image | Rollback | FailedUpdate => {
                format!("{}, ", self.order.word())
            }
        };
        let plural = if self.replicas == 1 { "" } else { "s" };
        format!("{order}{health}, {} replica{plural}{kind}", self.replicas)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.service())
    }
}

/// Cases that happen at the same time, each to a service of its own. The load is shared among them.
pub(crate) type Group = Vec<Case>;

/// The same for 1, 2 and 4 replicas.
fn each_size(of: impl Fn(u32) -> Case) -> Group {
    [1, 2, 4].map(of).to_vec()
}

/// What tells most in half a minute.
pub(crate) fn short() -> Vec<Group> {
    vec![vec![
        case(Image, StopFirst, 1),
        case(Force, StartFirst, 1).without_healthcheck(),
        case(Rollback, StopFirst, 1),
        case(FailedUpdate, StopFirst, 1),
        case(Scale(&[1, 4]), StopFirst, 4).of(Kind::Idle),
        case(Scale(&[0, 2]), StopFirst, 2).may_lose(MayLose::WhileNoneIsWanted),
        case(Kill, StopFirst, 1).may_lose(MayLose::UnderWay),
        case(Remove, StopFirst, 2).may_lose(MayLose::UnderWay),
    ]]
}

const GAP: MayLose = MayLose::Stated(
    "no replica listens for longer than `timeout.queue` (15 s): Swarm ended the old ones before",
);
const IMPOLITE: MayLose =
    MayLose::Stated("requests that the replica had begun, and that took longer than 2 s to end");

/// Every event: planned ones of every kind, then crashes.
pub(crate) fn full() -> Vec<Group> {
    let mut groups = Vec::new();
    for order in [StopFirst, StartFirst] {
        for event in [Force, Image] {
            let with = each_size(|count| case(event, order, count));
            let without = each_size(|count| case(event, order, count).without_healthcheck());
            groups.push([with, without].concat());
        }
        let by_hand = each_size(|count| case(Rollback, order, count));
        let by_itself = each_size(|count| case(FailedUpdate, order, count));
        groups.push([by_hand, by_itself].concat());
    }
    groups.push(vec![
        case(Scale(&[1, 4]), StopFirst, 4),
        case(Scale(&[1, 4]), StopFirst, 4).without_healthcheck(),
        case(Scale(&[1, 4, 0, 2]), StopFirst, 4).may_lose(MayLose::WhileNoneIsWanted),
    ]);
    groups.push(kinds(Kind::Idle, MayLose::Nothing));
    groups.push(kinds(Kind::Dying, IMPOLITE));
    groups.push(vec![
        case(Force, StopFirst, 1).of(Kind::Slow).may_lose(GAP),
        case(Force, StopFirst, 2).of(Kind::Slow),
        case(Force, StartFirst, 1).of(Kind::Slow),
        case(Force, StopFirst, 2).of(Kind::Slow).without_healthcheck().may_lose(GAP),
        case(Force, StartFirst, 2).of(Kind::Slow).without_healthcheck().may_lose(GAP),
    ]);
    let mut crashes = Vec::new();
    for event in [Kill, Remove] {
        crashes
            .extend(each_size(|count| case(event, StopFirst, count).may_lose(MayLose::UnderWay)));
        let by_default = case(event, StopFirst, 1).may_lose(MayLose::UnderWay);
        crashes.push(Case { restart_delay: "5s", ..by_default });
    }
    groups.push(crashes);
    groups
}

fn kinds(kind: Kind, may_lose: MayLose) -> Group {
    let one = |order, count| case(Force, order, count).of(kind).may_lose(may_lose);
    vec![one(StopFirst, 1), one(StopFirst, 4), one(StartFirst, 1), one(StartFirst, 4)]
}

/// What other proxies are asked as well.
pub(crate) fn compared() -> Vec<Group> {
    let forced = |order| each_size(|count| case(Force, order, count));
    let image = each_size(|count| case(Image, StartFirst, count).without_healthcheck());
    let others = vec![
        case(Rollback, StopFirst, 2),
        case(FailedUpdate, StartFirst, 2),
        case(Force, StopFirst, 4).of(Kind::Idle),
    ];
    let crash = |event, count| case(event, StopFirst, count).may_lose(MayLose::UnderWay);
    vec![
        [forced(StopFirst), forced(StartFirst)].concat(),
        [image, others].concat(),
        vec![case(Scale(&[1, 4]), StopFirst, 4), crash(Kill, 1), crash(Kill, 2), crash(Remove, 4)],
    ]
}

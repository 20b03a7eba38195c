//! The parts of a stack file that are looked at, as they are written.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

#[derive(Debug, Deserialize)]
pub(super) struct Stack {
    pub(super) services: Option<Services>,
}

/// In the order of the file.
#[derive(Debug, Default)]
pub(super) struct Services(pub(super) Vec<(Spanned<String>, Option<Service>)>);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Service {
    pub(super) deploy: Option<Deploy>,
    pub(super) labels: Option<Labels>,
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Deploy {
    pub(super) labels: Option<Labels>,
}

/// Labels in either of their two forms.
#[derive(Debug)]
pub(super) enum Labels {
    Map(Vec<(Spanned<String>, Spanned<Option<String>>)>),
    List(Vec<Spanned<String>>),
}

/// A port in either of its two forms. Numbers are text, for they may be variables.
#[derive(Debug)]
pub(super) enum Port {
    Short(String),
    Long(LongPort),
}

#[derive(Debug, Default)]
pub(super) struct LongPort {
    pub(super) target: Option<String>,
    pub(super) published: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) mode: Option<String>,
}

impl<'de> Deserialize<'de> for Services {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Services;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("services by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Services, A::Error> {
                pairs(map).map(Services)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapOrList;

        impl<'de> Visitor<'de> for MapOrList {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels as a map or as a list of `name=value`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Labels, A::Error> {
                pairs(map).map(Labels::Map)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Labels, A::Error> {
                let mut lines = Vec::new();
                while let Some(line) = list.next_element()? {
                    lines.push(line);
                }
                Ok(Labels::List(lines))
            }
        }

        deserializer.deserialize_any(MapOrList)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShortOrLong;

        impl<'de> Visitor<'de> for ShortOrLong {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Port, E> {
                Ok(Port::Short(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Port, E> {
                Ok(Port::Short(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Port, E> {
                Ok(Port::Short(number.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Port, A::Error> {
                let mut port = LongPort::default();
                while let Some(key) = map.next_key::<String>()? {
                    let place = match key.as_str() {
                        "target" => &mut port.target,
                        "published" => &mut port.published,
                        "protocol" => &mut port.protocol,
                        "mode" => &mut port.mode,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *place = map.next_value()?;
                }
                Ok(Port::Long(port))
            }
        }

        deserializer.deserialize_any(ShortOrLong)
    }
}

fn pairs<'de, K, V, A>(mut map: A) -> Result<Vec<(K, V)>, A::Error>
where
    K: Deserialize<'de>,
    V: Deserialize<'de>,
    A: MapAccess<'de>,
{
    let mut pairs = Vec::new();
    while let Some(pair) = map.next_entry()? {
        pairs.push(pair);
    }
    Ok(pairs)
}

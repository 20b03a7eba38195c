//! How many connections there may be, and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections at once: more than any Swarm has nodes.
const ALL: usize = 512;
/// Of one address: an edge, the edge that replaces it, and room for what has not been noticed to
/// be gone.
const OF_ONE_ADDRESS: usize = 16;

/// The seats that are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A seat; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    /// A seat for this address, if one is left.
    pub(super) fn take(&self, address: IpAddr) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.all >= ALL || own >= OF_ONE_ADDRESS {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, own + 1);
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let own = taken.by_address.get(&self.address).copied().unwrap_or(0);
        if own > 1 {
            taken.by_address.insert(self.address, own - 1);
        } else {
            taken.by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_address_leaves_room_for_the_others_and_nothing_is_kept_of_those_that_left() {
        let seats = Seats::default();
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 9, last));
        let crowd: Vec<_> = (0..100).filter_map(|_| seats.take(address(1))).collect();
        assert_eq!(crowd.len(), OF_ONE_ADDRESS);
        let rest: Vec<_> = (2..100).flat_map(|at| [address(at); 9]).collect();
        let rest: Vec<_> = rest.into_iter().filter_map(|at| seats.take(at)).collect();
        assert_eq!(crowd.len() + rest.len(), ALL);
        drop((crowd, rest));
        let taken = seats.0.lock().unwrap();
        assert_eq!((taken.all, taken.by_address.len()), (0, 0));
    }
}

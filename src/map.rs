//! Maps with a hash that is keyed anew in each process, as the standard library's, and much cheaper.
//!
//! Each publish asks a dozen maps whose keys are ids of forty bytes.

use foldhash::quality::RandomState;

/// A hash map.
pub type Map<K, V> = std::collections::HashMap<K, V, RandomState>;
/// A hash set.
pub type Set<K> = std::collections::HashSet<K, RandomState>;

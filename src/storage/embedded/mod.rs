//! Back ends that need no server: everything lives in this process and in the data directory.

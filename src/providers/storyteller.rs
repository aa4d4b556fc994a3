//! The embedded storyteller as a text provider: paced, deterministic, always there.

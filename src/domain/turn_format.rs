//! The turn format: how a provider writes a scene as one stream of text.

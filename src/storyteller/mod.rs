//! The embedded story engine: parses a prompt, simulates causes, writes scenes. Pure and deterministic; its content
//! is data under `assets/storyteller/`.

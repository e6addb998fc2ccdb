//! A grid file to axes, cells and tasks, lazily.

pub mod space;

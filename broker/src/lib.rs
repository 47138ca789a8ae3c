//! Runs an unmodified QEMU in a sandbox in which none of its files exist, and answers its opens with descriptors.
//!
//! Where to start reading: [`run`] is the program on one page; [`confine::become_emulator`] is the order in which the
//! started process is confined, [`confine::settle::settle`] that of the broker; [`serve::serve`] is the broker's loop.

pub mod administrator;
pub mod administrators_file;
pub mod agent;
pub mod another_name;
pub mod bridge_acl;
pub mod bridge_helper;
pub mod broker_process;
pub mod caller_terminal;
pub mod check;
pub mod cli;
pub mod confine;
pub mod control;
pub mod coverage;
pub mod emulator;
pub mod fingerprint;
pub mod host;
pub mod installation;
pub mod open;
pub mod operator_program;
pub mod own_words;
pub mod packets;
pub mod paths;
pub mod plan;
pub mod prober;
pub mod readable;
pub mod record;
pub mod relay;
pub mod run;
pub mod serve;
pub mod shell;
pub mod start;
pub mod sys;

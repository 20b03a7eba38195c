//! `cookies` of `targets.rs`, with bytes that libFuzzer makes up.

#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("cookies", bytes));

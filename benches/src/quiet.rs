//! Waiting for a moment in which nothing else runs: on a machine with few processors, somebody else's work changes where
//! the scheduler puts emulator, agent and broker, and with it what is measured.

use std::time::Duration;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Looks in a row that must find nobody else running.
const QUIET_LOOKS: usize = 5;
/// Looks at most, which makes half a second; a machine that never rests is measured all the same.
const LOOKS: usize = 250;

/// Waits until nothing but this process runs. `false`: the machine did not come to rest in time.
pub(crate) fn wait() -> bool {
    let mut quiet = 0;
    for _ in 0..LOOKS {
        std::thread::sleep(PAUSE);
        quiet = if running() == Some(1) { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            return true;
        }
    }
    false
}

/// Threads that run or could run now, this one among them: the fourth field of `/proc/loadavg` (proc_loadavg(5)).
fn running() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split('/').next()?.parse().ok()
}

//! The terminal as the bar is drawn on it.
//!
//! Between two drawings the cursor stands at the beginning of the bar's last line. At its end,
//! where a drawing leaves it, the `^C` that a terminal echoes would begin a new line, and the next
//! drawing would miss the one above.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// Standard error.
#[derive(Debug, Default)]
pub(super) struct Screen(Mutex<Vec<u8>>);

impl Screen {
    fn put(&self, text: &str) -> io::Result<()> {
        // Bytes of a drawing: no panic elsewhere can leave them worse than incomplete.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn turn(&self, n: usize, way: char) -> io::Result<()> {
        match n {
            0 => Ok(()),
            n => self.put(&format!("\x1b[{n}{way}")),
        }
    }

    fn taken(&self) -> Vec<u8> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(b'\r');
        std::mem::take(&mut *waiting)
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        super::size().0
    }

    fn height(&self) -> u16 {
        super::size().1
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.turn(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.turn(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.turn(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.turn(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.put(text)?;
        self.put("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let mut terminal = io::stderr().lock();
        terminal.write_all(&self.taken())?;
        terminal.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_ends_where_its_last_line_begins() {
        let screen = Screen::default();
        screen.move_cursor_up(1).unwrap();
        screen.move_cursor_up(0).unwrap();
        screen.clear_line().unwrap();
        screen.write_str("two lines").unwrap();
        assert_eq!(screen.taken(), b"\x1b[1A\r\x1b[2Ktwo lines\r");
        assert_eq!(screen.taken(), b"\r", "nothing is drawn twice");
    }
}

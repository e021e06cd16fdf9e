//! Solves powfast's challenges, from docs/protocol.md alone. It leaves out paying ahead and gRPC.

use crate::sha256::{first_word, sha256};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// About a minute's work of this client on a few cores, in evaluations of SHA-256.
pub const DEFAULT_MAX_WORK: u64 = 1 << 29;

/// Why a challenge is not paid.
#[derive(Debug)]
pub enum Unpaid {
    Malformed,
    Algorithm(u8),
    TooMuchWork { work: u64, max_work: u64 },
    Expired(Duration),
}

impl fmt::Display for Unpaid {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(to, "not a challenge that this client can solve"),
            Self::Algorithm(found) => {
                write!(
                    to,
                    "not a challenge that this client can solve: algorithm {found}"
                )
            }
            Self::TooMuchWork { work, max_work } => {
                write!(
                    to,
                    "too much work: {work} evaluations, allowed are {max_work}"
                )
            }
            Self::Expired(life) => write!(to, "not solved while the challenge lived: {life:?}"),
        }
    }
}

impl std::error::Error for Unpaid {}

/// Returns the token of the first `PoW challenge="..."` in the value of WWW-Authenticate.
pub fn challenge_in(value: &str) -> Option<&str> {
    let lower = value.to_ascii_lowercase(); // of the same length: scheme and name come in any case
    let mut from = 0;
    while let Some(found) = lower[from..].find("pow ") {
        let (start, after) = (from + found, from + found + "pow ".len());
        from = after;
        let inside_a_word = lower[..start].ends_with(|c: char| c.is_ascii_alphanumeric());
        let rest = value[after..].trim_start_matches(' ');
        let name = "challenge=\"";
        if inside_a_word || !rest.to_ascii_lowercase().starts_with(name) {
            continue;
        }
        return rest[name.len()..].split('"').next();
    }
    None
}

/// Returns the PoW-Solution header's value for a challenge that was received just now.
pub fn solve(text: &str, max_work: u64) -> Result<String, Unpaid> {
    let puzzle = Puzzle::read(text)?;
    if puzzle.work > max_work {
        return Err(Unpaid::TooMuchWork {
            work: puzzle.work,
            max_work,
        });
    }
    // the server's clock may be wrong here: only the difference between its two times counts
    let nonces = puzzle.solve(Instant::now() + puzzle.lifetime);
    let nonces = nonces.ok_or(Unpaid::Expired(puzzle.lifetime))?;
    let packed: Vec<u8> = nonces
        .iter()
        .flat_map(|nonce| nonce.to_be_bytes())
        .collect();
    Ok(format!("{text}.{}", to_base64url(&packed)))
}

struct Puzzle {
    seed: [u8; 32],
    work: u64,
    parts: u32,
    lifetime: Duration,
}

impl Puzzle {
    fn read(text: &str) -> Result<Self, Unpaid> {
        let token = from_base64url(text).ok_or(Unpaid::Malformed)?;
        // tag[10], algorithm u8, id[16], work u64, parts u16, issued u64, expires u64; the rest is
        // the server's
        if token.len() < 53 || !token.starts_with(b"powfast/c1") {
            return Err(Unpaid::Malformed);
        }
        if token[10] != 1 {
            return Err(Unpaid::Algorithm(token[10]));
        }
        let number = |at: usize| u64::from_be_bytes(token[at..at + 8].try_into().unwrap());
        let parts = u32::from(token[35]) << 8 | u32::from(token[36]);
        let (work, issued, expires) = (number(27), number(37), number(45));
        if work == 0 || !(1..=1024).contains(&parts) || expires < issued {
            return Err(Unpaid::Malformed);
        }
        let mut seed = [0; 32];
        for (bytes, word) in seed.chunks_exact_mut(4).zip(sha256(&token)) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let day = 24 * 3600 * 1000; // longer than anything is solved, and far from overflow
        let lifetime = Duration::from_millis((expires - issued).min(day));
        Ok(Self {
            seed,
            work,
            parts,
            lifetime,
        })
    }

    /// Searches on all cores: each thread takes the next part that nobody has begun.
    fn solve(&self, deadline: Instant) -> Option<Vec<u64>> {
        let next = AtomicU32::new(0);
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&part| part < self.parts);
        let work = || {
            let mut found = Vec::new();
            while let Some(part) = take() {
                found.push((part, self.search(part, deadline)?));
            }
            Some(found)
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let found: Option<Vec<_>> = thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            started
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let mut solved = found?.concat();
        solved.sort_unstable();
        Some(solved.into_iter().map(|(_, nonce)| nonce).collect())
    }

    fn search(&self, part: u32, deadline: Instant) -> Option<u64> {
        let mut block = [0; 64]; // 55 bytes of message, then SHA-256's padding
        block[..32].copy_from_slice(&self.seed);
        block[32..43].copy_from_slice(b"powfast/v1:");
        block[43..47].copy_from_slice(&part.to_be_bytes());
        block[55] = 0x80;
        block[56..].copy_from_slice(&(8 * 55u64).to_be_bytes());
        let target = self.target();
        for nonce in 0.. {
            block[47..55].copy_from_slice(&u64::to_be_bytes(nonce));
            if u128::from(first_word(&block)) < target {
                return Some(nonce);
            }
            if nonce % 4096 == 0 && Instant::now() >= deadline {
                return None;
            }
        }
        None
    }

    /// floor(2^64 / w), which is 2^64 itself where every nonce is taken.
    fn target(&self) -> u128 {
        let each = (u128::from(self.work) + u128::from(self.parts) - 1) / u128::from(self.parts);
        (1 << 64) / each
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            text.push(char::from(
                ALPHABET[(bits >> (18 - 6 * place)) as usize % 64],
            ));
        }
    }
    text
}

/// Reads canonical base64url without padding.
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for symbol in text.bytes() {
        let value = ALPHABET.iter().position(|&known| known == symbol)?;
        (bits, held) = (bits << 6 | value as u32, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes).filter(|bytes| to_base64url(bytes) == text)
}

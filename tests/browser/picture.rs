//! Screenshots, and whether they look like what a person has looked at and found good.
//!
//! What is kept in `tests/browser/` is each picture made 16 times smaller. That is too coarse for letters, and so for
//! ids, times and the differences between versions of Chromium (150 and 156 differ in less than one cell of a
//! thousand); it is fine enough for what breaks a page: a style sheet that is missing or refused, a panel that is
//! absent, empty, covered or somewhere else, colours that have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The side of a cell, in pixels.
const CELL: usize = 16;
/// How far a cell's mean colour may be from the one that is kept, of 255.
const NEAR: u8 = 24;
/// How many cells in a thousand may be farther off.
const TOLERATED: usize = 10;

/// Mean colours of cells, row by row.
#[derive(PartialEq)]
struct Coarse {
    width: usize,
    height: usize,
    cells: Vec<[u8; 3]>,
}

/// How long a page may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fails unless what `take` shows comes to look like the kept picture. It is in `target/screenshots` afterwards, for people.
/// `UPDATE_SNAPSHOT=1 cargo test --test browser` accepts a change: look at it before.
#[track_caller]
pub fn assert_looks_as_before(name: &str, take: impl Fn() -> Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    fs::create_dir_all(&folder).unwrap();
    let shown = folder.join(format!("{name}.png"));
    let kept = kept(name);
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        fs::write(&kept, Coarse::of(&take()).to_png()).unwrap();
    }
    let before = Coarse::read(&fs::read(&kept).expect("a kept picture: make it with UPDATE_SNAPSHOT=1"));
    let began = Instant::now();
    loop {
        let screenshot = take();
        fs::write(&shown, &screenshot).unwrap();
        let seen = Coarse::of(&screenshot);
        assert_eq!((seen.width, seen.height), (before.width, before.height), "{name}: the window has another size");
        let off = seen.cells.iter().zip(&before.cells).filter(|(a, b)| distance(a, b) > NEAR).count();
        let allowed = seen.cells.len() * TOLERATED / 1000;
        println!("{name}: {off} of {} cells are off, {allowed} may be", seen.cells.len());
        if off <= allowed {
            return;
        }
        // Something may still be sliding into its place.
        assert!(began.elapsed() < PATIENCE, "{name}: {off} cells are off, {allowed} may be; see {}", shown.display());
        thread::sleep(Duration::from_millis(300));
    }
}

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/browser/{name}.png"))
}

fn distance(a: &[u8; 3], b: &[u8; 3]) -> u8 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

impl Coarse {
    fn of(png: &[u8]) -> Self {
        let picture = Self::read(png);
        let (width, height) = (picture.width / CELL, picture.height / CELL);
        let mean = |cell: usize| {
            let (left, top) = (cell % width * CELL, cell / width * CELL);
            let mut sums = [0u32; 3];
            for y in top..top + CELL {
                for pixel in &picture.cells[y * picture.width + left..][..CELL] {
                    sums.iter_mut().zip(pixel).for_each(|(sum, channel)| *sum += u32::from(*channel));
                }
            }
            sums.map(|sum| u8::try_from(sum / u32::try_from(CELL * CELL).unwrap()).unwrap())
        };
        Self { width, height, cells: (0..width * height).map(mean).collect() }
    }

    /// As it is: a cell for each pixel.
    fn read(png: &[u8]) -> Self {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        let cells = bytes[..info.buffer_size()].chunks_exact(info.color_type.samples());
        let cells = cells.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Self { width: info.width.try_into().unwrap(), height: info.height.try_into().unwrap(), cells }
    }

    fn to_png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width.try_into().unwrap(), self.height.try_into().unwrap());
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        encoder.write_header().unwrap().write_image_data(self.cells.as_flattened()).unwrap();
        bytes
    }
}

//! Names of the files of several images.

use std::path::{Path, PathBuf};

/// `out-03.png` for the third of ten or more images; `out.png` for a single image.
pub(super) fn numbered(path: &Path, number: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_owned();
    }
    let digits = count.to_string().len();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{:0digits$}.{extension}", number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_names() {
        let of = |number, count| numbered(Path::new("a/out.png"), number, count).display().to_string();
        assert_eq!(of(0, 1), "a/out.png");
        assert_eq!(of(0, 9), "a/out-1.png");
        assert_eq!(of(8, 12), "a/out-09.png");
    }
}

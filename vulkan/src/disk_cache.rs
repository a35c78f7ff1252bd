//! The file of the pipeline cache. It is checked before the driver sees it, because drivers trust their input.
//!
//! Layout: 8 bytes of magic, 8 bytes of FNV-1a of the rest, then the driver's header (length, version, vendor, device,
//! UUID of the cache's format) and the driver's data.

use std::path::{Path, PathBuf};

use ash::vk;

const MAGIC: &[u8; 8] = b"denoirVk";
/// Maximum size; a larger file is not ours.
const MAX_BYTES: u64 = 256 << 20;

/// Path of the file for a device and driver in the cache folder.
pub(crate) fn path(folder: &Path, of: &vk::PhysicalDeviceProperties) -> PathBuf {
    let uuid: String = of.pipeline_cache_uuid.iter().map(|b| format!("{b:02x}")).collect();
    folder.join(format!("{:04x}-{:04x}-{:08x}-{uuid}.bin", of.vendor_id, of.device_id, of.driver_version))
}

/// Reads the driver's data; empty if the file is missing, damaged, or belongs to another device.
pub(crate) fn load(path: &Path, of: &vk::PhysicalDeviceProperties) -> Option<Vec<u8>> {
    if std::fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let file = std::fs::read(path).ok()?;
    let data = checked(&file, of)?;
    Some(data.to_vec())
}

/// Writes a temporary file, then renames it, so that nobody reads a partial file.
pub(crate) fn save(path: &Path, data: &[u8]) {
    let mut file = MAGIC.to_vec();
    file.extend(fnv(data).to_le_bytes());
    file.extend(data);
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = path.parent().is_none_or(|folder| std::fs::create_dir_all(folder).is_ok())
        && std::fs::write(&temporary, file).is_ok()
        && std::fs::rename(&temporary, path).is_ok();
    if !written {
        let _ = std::fs::remove_file(&temporary);
    }
}

fn checked<'f>(file: &'f [u8], of: &vk::PhysicalDeviceProperties) -> Option<&'f [u8]> {
    let rest = file.strip_prefix(MAGIC)?;
    let (sum, data) = rest.split_at_checked(8)?;
    let word = |i: usize| data.get(4 * i..4 * i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let same = sum == fnv(data).to_le_bytes()
        && word(0)? as usize <= data.len()
        && word(1)? == vk::PipelineCacheHeaderVersion::ONE.as_raw() as u32
        && word(2)? == of.vendor_id
        && word(3)? == of.device_id
        && data.get(16..32)? == of.pipeline_cache_uuid;
    same.then_some(data)
}

fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &b| (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> vk::PhysicalDeviceProperties {
        vk::PhysicalDeviceProperties { vendor_id: 7, device_id: 9, pipeline_cache_uuid: [5; 16], ..Default::default() }
    }

    fn sample() -> Vec<u8> {
        let mut data: Vec<u8> = [32u32, 1, 7, 9].iter().flat_map(|w| w.to_le_bytes()).collect();
        data.extend([5; 16]);
        data.extend(b"driver's own");
        data
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("new"), &device());
        assert_eq!(load(&path, &device()), None);
        save(&path, &sample());
        assert_eq!(load(&path, &device()), Some(sample()));
    }

    #[test]
    fn foreign_and_damaged_files_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), &device());
        save(&path, &sample());
        let other = vk::PhysicalDeviceProperties { pipeline_cache_uuid: [6; 16], ..device() };
        assert_eq!(load(&path, &other), None);
        let file = std::fs::read(&path).unwrap();
        for i in 0..file.len() {
            let mut damaged = file.clone();
            damaged[i] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(load(&path, &device()), None, "byte {i}");
            std::fs::write(&path, &file[..i]).unwrap();
            assert_eq!(load(&path, &device()), None, "{i} bytes");
        }
    }
}

//! A model file that somebody changes while a host uses it.

mod common;

use std::ffi::{CString, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use common::{DEMO, Host};
use denoir_capi::denoir_status::*;
use denoir_capi::*;
use tempfile::TempDir;

/// A copy of the demo model that may be damaged.
fn copy(folder: &TempDir) -> Result<PathBuf> {
    let path = folder.path().join("model.gguf");
    fs::copy(DEMO, &path)?;
    Ok(path)
}

/// Cuts a file to nothing, and then writes as many other bytes as it had.
fn damage(path: &Path) -> Result<()> {
    let len = path.metadata()?.len() as usize;
    File::create(path)?;
    OpenOptions::new().write(true).open(path)?.write_all(&vec![0xff; len])?;
    Ok(())
}

/// The file, and how often it was damaged.
struct Victim(PathBuf, usize);

unsafe extern "C" fn damage_during(victim: *mut c_void, _: *const denoir_progress) -> i32 {
    // SAFETY: the test gives the structure.
    let victim = unsafe { &mut *victim.cast::<Victim>() };
    victim.1 += 1;
    // Once cut alone, then overwritten.
    let done = if victim.1 == 1 { File::create(&victim.0).map(drop).map_err(Into::into) } else { damage(&victim.0) };
    i32::from(done.is_err())
}

#[test]
fn a_file_that_was_read_may_be_cut_and_overwritten_while_it_is_drawn_from() -> Result<()> {
    let expected = Host::new(DEMO, 2).draw();
    let folder = tempfile::tempdir()?;
    let path = copy(&folder)?;
    let (mut host, opened) = Host::open(&path, denoir_model_open);
    assert_eq!((opened, host.prepare(2)), (DENOIR_OK, DENOIR_OK), "{}", host.message());
    let mut victim = Victim(path, 0);
    host.observe(Some(damage_during), &mut victim);
    assert!(host.draw() == expected, "another picture while the file changed");
    assert!(victim.1 > 1 && host.draw() == expected, "another picture afterwards");
    Ok(())
}

#[test]
fn a_file_that_changed_before_its_pipeline_was_made_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let damages: [fn(&Path) -> Result<()>; 3] = [
        damage,
        |path| Ok(File::create(path).map(drop)?),
        |path| Ok(OpenOptions::new().append(true).open(path)?.write_all(b"more")?),
    ];
    for damage in damages {
        let (mut host, opened) = Host::open(&copy(&folder)?, denoir_model_open);
        assert_eq!(opened, DENOIR_OK, "{}", host.message());
        // The date of a change may be as coarse as the system's clock tick.
        std::thread::sleep(std::time::Duration::from_millis(20));
        damage(&folder.path().join("model.gguf"))?;
        assert_eq!(host.prepare(2), DENOIR_ERROR_IO);
        assert!(host.message().contains("has changed"), "{}", host.message());
        assert!(host.pipeline.is_null());
    }
    Ok(())
}

#[test]
fn a_file_may_be_replaced_or_removed_before_its_pipeline_is_made() -> Result<()> {
    let expected = Host::new(DEMO, 2).draw();
    let folder = tempfile::tempdir()?;
    for open in [denoir_model_open as common::Open, denoir_model_map] {
        let path = copy(&folder)?;
        let (mut host, opened) = Host::open(&path, open);
        fs::write(folder.path().join("other"), b"other")?;
        fs::rename(folder.path().join("other"), &path)?;
        fs::remove_file(&path)?;
        assert_eq!((opened, host.prepare(2)), (DENOIR_OK, DENOIR_OK), "{}", host.message());
        assert!(host.draw() == expected);
    }
    Ok(())
}

#[test]
fn a_text_encoder_that_was_read_needs_its_file_no_more() -> Result<()> {
    let folder = tempfile::tempdir()?;
    denoir_tests::tiny_encoder::write(folder.path(), denoir_tests::convert_checkpoint::Float::F32)?;
    let path = folder.path().join("encoder.gguf");
    denoir_convert::convert(&denoir_convert::locate(folder.path())?, &path, &Default::default(), &mut |_| {})?;
    let encode = |encoder: &denoir::TextEncoder| encoder.encode(&["ab a"], 4, &denoir::Options::default());
    let mapped = denoir::TextEncoder::load(&path, denoir::Loading::Map)?;
    let expected = encode(&mapped)?;
    drop(mapped);
    let read = denoir::TextEncoder::open(&path)?;
    damage(&path)?;
    assert_eq!(encode(&read)?, expected);
    // Through C as well.
    let (context, mut encoder) = (denoir_context_new(), std::ptr::null_mut());
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: valid handles and places.
    unsafe {
        assert_eq!(denoir_text_encoder_open(context, path.as_ptr(), &mut encoder), DENOIR_ERROR_MODEL);
        assert_eq!(denoir_text_encoder_map(context, path.as_ptr(), &mut encoder), DENOIR_ERROR_MODEL);
        denoir_context_free(context);
    }
    Ok(())
}

//! Every input that is kept passes its target: what a fuzzer once found stays mended.

use std::path::Path;

use denoir_fuzz::TARGETS;

#[test]
fn every_kept_input_passes() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            let input = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            println!("{}", path.display());
            target.check(&input);
            inputs += 1;
        }
        assert!(inputs > 0, "{} has no input", target.name);
        target.check(&[]);
    }
}

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[test]
fn a_refusal_names_path_cause_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    for (kind, parts) in [
        (ErrorKind::PermissionDenied, &["permission denied", "mode 0640", "uid ", "run"][..]),
        (ErrorKind::ReadOnlyFilesystem, &["read-only", "ReadWritePaths"]),
        (ErrorKind::StorageFull, &["no space", "free some"]),
        (ErrorKind::QuotaExceeded, &["no space", "free some"]),
        (ErrorKind::NotFound, &["not there"]),
        (ErrorKind::IsADirectory, &["a folder", "mend the path"]),
    ] {
        let told = FileError::new(&path, "written", kind.into()).to_string();
        assert!(told.starts_with(&format!("{} cannot be written: ", path.display())), "{told}");
        for part in parts {
            assert!(told.contains(part), "{kind:?}: {told}");
        }
    }
    let told = FileError::new(&path.join("a"), "made", ErrorKind::NotADirectory.into()).to_string();
    assert!(told.contains(&format!("{} is a file", path.display())), "{told}");
    let told = FileError::new(&folder.path().join("a/b/c"), "made", ErrorKind::NotFound.into()).to_string();
    assert!(told.contains(&format!("below {}", folder.path().display())) && told.contains("make it"), "{told}");
}

/// A folder is made private and alone and one that is there stays as it is.
#[test]
fn a_folder_is_made_private_and_one_that_is_there_stays() {
    let home = tempfile::tempdir().unwrap();
    let (new, old) = (home.path().join("new"), home.path().join("old"));
    create_private_folder(&new).unwrap();
    fs::create_dir(&old).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    create_private_folder(&old).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&new), mode(&old)), (0o700, 0o755));
    assert!(create_private_folder(&home.path().join("not/there")).is_err());
    assert!(!home.path().join("not").exists());
    fs::write(home.path().join("file"), "").unwrap();
    let told = create_private_folder(&home.path().join("file")).unwrap_err().to_string();
    assert!(told.contains("is a file and not a folder"), "{told}");
}

#[test]
fn a_new_file_is_never_written_over_another_and_leaves_no_draft() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    assert!(write_new(&path, "one").unwrap());
    assert!(!write_new(&path, "two").unwrap());
    assert_eq!(lines(&path).unwrap(), ["one"]);
    replace(&path, "three\nfour").unwrap();
    assert_eq!(lines(&path).unwrap(), ["three", "four"]);
    assert_eq!(lines(&home.path().join("none")).unwrap(), [""; 0]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_lock_is_held_by_one_at_a_time_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (folder, inside, most) = (home.path().to_owned(), Arc::clone(&inside), Arc::clone(&most));
            thread::spawn(move || {
                for _ in 0..5 {
                    let _lock = FolderLock::acquire(&folder).unwrap();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

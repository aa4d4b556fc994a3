//! The lint finds what it is there to find.

use super::*;

/// The findings about the pack `empire` after one of its files was changed.
fn findings(file: &str, from: &str, to: &str) -> Vec<String> {
    let mut sources = compiled_in();
    sources[0].packs.retain(|(id, _)| id == "empire");
    let at = PACK_FILES.iter().position(|known| *known == file).unwrap();
    let (_, files) = &mut sources[0].packs[0];
    let text = files[at].as_mut().unwrap();
    assert!(text.contains(from), "{from:?} is not in {file}");
    *text = text.replacen(from, to, 1);
    check(&sources[..1], Some("empire")).iter().map(ToString::to_string).collect()
}

#[test]
fn each_kind_of_fault_is_found_where_it_is() {
    for (file, from, to, what) in [
        (
            "pack",
            "id = \"empire\"",
            "id = \"umpire\"",
            "en/empire/pack.toml: id: is not its folder’s name",
        ),
        ("pack", "[[cause]]", "[[course]]", "en/empire/pack.toml: line"),
        (
            "early",
            "[[storylet]]\n",
            "[[storylet]]\nneeds = [\"no_such_flag\"]\n",
            "needs no_such_flag, which nothing sets",
        ),
        ("early", "{ally}", "{aly}", "unknown slot {aly}"),
        ("early", "{place}", "the {place}", "an article before what has one"),
        ("early", "{actor}", "{actor} was", "“was” shows number after the slot"),
        ("middle", "“", "", "quotes do not match"),
        (
            "middle",
            "label = \"",
            "label = \"A very long label that goes on and on and on and on and on and on and on and on and on and on, and then on: ",
            "longer than 110 characters",
        ),
        ("late", "effects = { ", "effects = { sunshine = 4, ", "moves unknown sunshine"),
        ("papers", "form = ", "mould = ", "en/empire/papers.toml: line"),
        ("endings", "kind = \"", "kind = \"x\"\nkind2 = \"", "en/empire/endings.toml: line"),
        ("cast", "[role.secret]", "[role.riddle]", "en/empire/cast.toml: line"),
    ] {
        let found = findings(file, from, to);
        assert!(found.iter().any(|line| line.contains(what)), "{what:?} is not in {found:#?}");
    }
}

#[test]
fn a_sentence_that_stands_twice_is_found_in_the_second_place() {
    let mut sources = compiled_in();
    sources[0].packs.retain(|(id, _)| id == "war");
    let (_, files) = &mut sources[0].packs[0];
    let sentence = "A column of lorries stood in the rain for as long as anybody could remember.";
    for file in &mut files[0..1] {
        let text = file.as_mut().unwrap();
        *text = text.replacen(
            "details = [",
            &format!("details = [\n\"{sentence}\", \"{sentence}\","),
            1,
        );
    }
    let found = check(&sources, Some("war"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].file, "en/war/pack.toml");
    assert!(found[0].what.contains("also in en/war/pack.toml: details"), "{}", found[0].what);
}

#[test]
fn a_folder_is_read_and_what_is_missing_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(from_folder(folder.path()), Err(FolderError::NoLanguage(_))));
    assert!(matches!(
        from_folder(&folder.path().join("nowhere")),
        Err(FolderError::Unreadable(..))
    ));
    let pack = folder.path().join("en/empire");
    std::fs::create_dir_all(&pack).unwrap();
    std::fs::write(pack.join("cast.toml"), "role = []").unwrap();
    let sources = from_folder(folder.path()).unwrap();
    let found: Vec<String> =
        check(&sources, Some("empire")).iter().map(ToString::to_string).collect();
    assert!(found.contains(&"en/empire/pack.toml: is missing".to_owned()), "{found:?}");
    assert!(!found.contains(&"en/empire/cast.toml: is missing".to_owned()), "{found:?}");
}

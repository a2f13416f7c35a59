"""Which catalog is meant; no message holds a password."""
import json
import sys

import pytest

from beam_coresets.transforms.iceberg.catalogs import CatalogError, CatalogSettings, catalog_settings

pytest.importorskip("pyiceberg")


def test_pairs_come_in_words_or_with_commas_between_them():
    asked = {"uri": "http://host:1/x?a=b,c", "warehouse": "s3://bucket/x", "s3.region": "eu"}
    words = [f"{name}={value}" for name, value in asked.items()]
    assert catalog_settings(words) == CatalogSettings("default", asked)
    assert catalog_settings([",".join(words)]) == CatalogSettings("default", asked)
    assert catalog_settings(["name=main", *words]) == CatalogSettings("main", asked)


def test_a_uri_alone_is_one():
    assert catalog_settings(["thrift://host:9083"]) == CatalogSettings("default", {"uri": "thrift://host:9083"})


def test_a_file_of_properties(tmp_path):
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({"name": "main", "uri": "http://host", "token": "x"}))
    assert catalog_settings([str(path)]) == CatalogSettings("main", {"uri": "http://host", "token": "x"})
    path.write_text('["secret"]')
    with pytest.raises(ValueError, match=r"^catalog: must be a JSON file with an object of properties, got '.*json'$"):
        catalog_settings([str(path)])


def test_a_name_of_pyicebergs_settings_is_looked_up_here(tmp_path, monkeypatch):
    """The workers may have no such file."""
    text = "catalog:\n  main:\n    uri: http://host\n    token: x\n  other:\n    uri: http://host\n"
    (tmp_path / ".pyiceberg.yaml").write_text(text)
    monkeypatch.setenv("PYICEBERG_HOME", str(tmp_path))
    assert catalog_settings(["main"]) == CatalogSettings("main", {"uri": "http://host", "token": "x"})
    with pytest.raises(ValueError, match=r"^c: must be one that pyiceberg's settings name \(main, other\), a URI, "):
        catalog_settings(["third"], "c")
    with pytest.raises(ValueError, match=r"^catalog: must be one name, URI or file, or NAME=VALUE pairs, got 2 words"):
        catalog_settings(["main", "uri=x"])


def test_properties_that_make_no_catalog_are_refused_by_what_is_wrong():
    with pytest.raises(ValueError, match=r"^catalog: must have the properties of a catalog, got .*uri.*ftp"):
        catalog_settings(["ftp://host"]).open()


SECRETS = {
    "uri": "postgresql+psycopg2://me:pass-word@host/db?password=pass-word", "s3.secret-access-key": "pass-word",
    "credential": "id:pass-word", "token": "pass-word", "auth": {"type": "basic", "basic": {"password": "pass-word"}},
}  # fmt: skip


def test_what_is_secret_is_in_no_message():
    settings = CatalogSettings("main", SECRETS)
    assert "pass-word" not in repr(settings)
    for text in map(str, SECRETS.values()):
        with pytest.raises(CatalogError) as found, settings.asked():
            raise RuntimeError(f"could not use {text} for anything\nmore about it")
        assert "pass-word" not in str(found.value)
        assert "for anything from 'main'" in str(found.value)
        assert "\n" not in str(found.value)


def test_without_pyiceberg_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    with pytest.raises(ValueError, match=r"^catalog: must have the extra \(pip install 'beam-coresets\[iceberg\]'\)"):
        catalog_settings(["uri=x"])

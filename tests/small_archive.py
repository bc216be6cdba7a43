"""A small DANDI archive on the loopback, for the real client: its API on one port and its bucket on another."""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from urllib.parse import urlencode

from small_bucket import Reply, SmallBucket, SmallServer

TOKEN = "0123456789abcdef-token-of-an-owner"
STRANGER = "fedcba9876543210-token-of-a-stranger"

_NOW = "2025-06-01T12:00:00.000000Z"
_ASSET = r"(?P<asset>[0-9a-f]{8}-[0-9a-f-]{27})/(?:(?P<view>info|download)/)?"
_ROUTES = [
    (re.compile(pattern), name)
    for pattern, name in [
        (r"/api/info/", "_info"),
        (r"/api/auth/token/?", "_token"),
        (r"/api/assets/" + _ASSET, "_bare_asset"),
        (r"/api/dandisets/(?P<id>\d{6})/", "_dandiset"),
        (r"/api/dandisets/(?P<id>\d{6})/versions/", "_versions"),
        (r"/api/dandisets/(?P<id>\d{6})/versions/(?P<version>[^/]+)/info/", "_version_info"),
        (r"/api/dandisets/(?P<id>\d{6})/versions/(?P<version>[^/]+)/assets/", "_assets"),
        (r"/api/dandisets/(?P<id>\d{6})/versions/(?P<version>[^/]+)/assets/" + _ASSET, "_asset"),
    ]
]
_Asset = namedtuple("_Asset", "item metadata key")  # as listed, in full, and the object in the bucket


class _Refusal(Exception):
    """Ends the handling of a request with an error of the API."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status, self.detail = status, detail


@dataclass
class _Dandiset:
    """Its assets by version, each by path."""

    id: str
    is_embargoed: bool
    versions: dict


class SmallArchive:
    """An archive that lasts as long as its block.

    `requests` lists everything that either host was asked for; `api.fail` and `bucket.server.fail` inject faults;
    `lifetime` is that of signed URLs in seconds. The owner of everything has the key `TOKEN`.
    """

    def __init__(self, lifetime=3600, page_size=100):
        self.lifetime, self.page_size = lifetime, page_size
        self.dandisets, self.requests = {}, []
        self.bucket = SmallBucket(self.requests)
        self.api = SmallServer("api", self._answer, self.requests)
        self.api_url = f"{self.api.url}/api"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.close()
        self.bucket.server.close()

    @contextlib.contextmanager
    def known_as(self, *names):
        """Let the dandi client take this archive for one or more of the instances that it knows by name.

        Pages and the true API of the instance lead here too.
        """
        from dandi import consts, utils

        class Stand(consts.DandiInstance):
            def urls(self):
                return [*originals[self.name].urls(), self.api] if self.name in originals else [self.api]

        originals = dict(consts.known_instances)
        backwards = dict(consts.known_instances_rev)
        utils._get_instance.cache_clear()
        for name in names:
            gui = originals[name].gui if name in originals else None
            consts.known_instances[name] = Stand(name, gui, self.api_url)
            consts.known_instances_rev.update(dict.fromkeys(consts.known_instances[name].urls(), name))
        try:
            yield self
        finally:
            for instances, kept in ((consts.known_instances, originals), (consts.known_instances_rev, backwards)):
                instances.clear()
                instances.update(kept)
            utils._get_instance.cache_clear()

    # What is in it

    def add_dandiset(self, dandiset_id, is_embargoed=False):
        """Add an empty dandiset that is a draft."""
        self.dandisets[dandiset_id] = _Dandiset(dandiset_id, is_embargoed, {"draft": {}})

    def add(self, dandiset_id, path, content, **metadata):
        """Add a file (bytes, or the path of one) to the draft of a dandiset, new or not; return its id."""
        content = content if isinstance(content, bytes) else Path(content).read_bytes()
        blob = str(uuid.uuid4())
        key = f"blobs/{blob[:3]}/{blob[3:6]}/{blob}"
        digest = hashlib.sha256(content).hexdigest()
        digests = {"dandi:dandi-etag": f"{hashlib.md5(content).hexdigest()}-1", "dandi:sha2-256": digest}
        return self._add(dandiset_id, path, {key: content}, key, digests, metadata, blob=blob)

    def add_zarr(self, dandiset_id, path, files, **metadata):
        """Add a Zarr store (bytes by name, or the path of a folder) to the draft of a dandiset; return its id."""
        if not isinstance(files, dict):
            found = [file for file in sorted(Path(files).rglob("*")) if file.is_file()]
            files = {file.relative_to(files).as_posix(): file.read_bytes() for file in found}
        store = str(uuid.uuid4())
        key = f"zarr/{store}/"
        size = sum(map(len, files.values()))
        digests = {"dandi:dandi-zarr-checksum": f"{hashlib.md5(repr(files).encode()).hexdigest()}-{len(files)}--{size}"}
        objects = {key + name: content for name, content in files.items()}
        return self._add(dandiset_id, path, objects, key, digests, metadata, zarr=store)

    def publish(self, dandiset_id, version):
        """Publish the draft as it is now."""
        versions = self.dandisets[dandiset_id].versions
        versions[version] = dict(versions["draft"])

    def _add(self, dandiset_id, path, objects, key, digests, metadata, blob=None, zarr=None):
        if dandiset_id not in self.dandisets:
            self.add_dandiset(dandiset_id)
        dandiset = self.dandisets[dandiset_id]
        asset_id, size = str(uuid.uuid4()), sum(map(len, objects.values()))
        self.bucket.objects.update(objects)
        if dandiset.is_embargoed:
            self.bucket.private.update(objects)
        item = {"asset_id": asset_id, "blob": blob, "zarr": zarr, "path": path, "size": size}
        full = {
            "schemaKey": "Asset",
            "schemaVersion": "0.6.10",
            "id": f"dandiasset:{asset_id}",
            "identifier": asset_id,
            "path": path,
            "contentSize": size,
            "contentUrl": [f"{self.api_url}/assets/{asset_id}/download/", self.bucket.url_of(key)],
            "digest": digests,
            "blobDateModified": _NOW,
        }
        dandiset.versions["draft"][path] = _Asset(item | {"created": _NOW, "modified": _NOW}, full | metadata, key)
        return asset_id

    # What its API answers

    def _answer(self, request):
        for pattern, name in _ROUTES:
            if found := pattern.fullmatch(request.path):
                try:
                    reply = getattr(self, name)(request, **found.groupdict())
                except _Refusal as refusal:
                    return _json({"detail": refusal.detail}, refusal.status)
                return reply if isinstance(reply, Reply) else _json(reply)
        return _json({"detail": "Not found."}, 404)

    def _info(self, _):
        services = {"api": {"url": self.api_url}, "webui": {"url": self.api.url}}
        return {"version": "0.18.0", "cli-minimal-version": "0.60.0", "cli-bad-versions": [], "services": services}

    def _token(self, request):
        if request.authorization not in (f"token {TOKEN}", f"token {STRANGER}"):
            raise _Refusal(401, "Invalid token.")
        return request.authorization.removeprefix("token ")

    def _dandiset(self, request, id):
        dandiset = self._allowed(request, id)
        published = sorted(version for version in dandiset.versions if version != "draft")
        newest = self._about(dandiset, published[-1]) if published else None
        about = {"most_recent_published_version": newest, "draft_version": self._about(dandiset, "draft")}
        return self._identity(dandiset) | about

    def _versions(self, request, id):
        dandiset = self._allowed(request, id)
        return self._page(request, [self._about(dandiset, version) for version in dandiset.versions])

    def _version_info(self, request, id, version):
        assets, dandiset = self._assets_of(request, id, version), self.dandisets[id]
        return self._about(dandiset, version) | {"asset_validation_errors": [], "n": len(assets)}

    def _assets(self, request, id, version):
        assets, query = list(self._assets_of(request, id, version).values()), request.query
        prefix, glob, order = query.get("path", "").lower(), query.get("glob", "*").lower(), query.get("order", "")
        wanted = re.compile(re.escape(glob).replace(r"\*", ".*"), re.DOTALL)  # the archive knows no other wildcard
        found = [one for one in assets if one.item["path"].lower().startswith(prefix)]
        found = [one for one in found if wanted.fullmatch(one.item["path"].lower())]
        if order:
            found.sort(key=lambda one: one.item[order.lstrip("-")], reverse=order.startswith("-"))
        with_metadata = query.get("metadata") == "true"
        return self._page(
            request, [one.item | {"metadata": one.metadata} if with_metadata else one.item for one in found]
        )

    def _asset(self, request, id, version, asset, view):
        return self._view(self._assets_of(request, id, version), asset, view)

    def _bare_asset(self, request, asset, view):
        for dandiset in self.dandisets.values():
            for version, assets in dandiset.versions.items():
                if any(one.item["asset_id"] == asset for one in assets.values()):
                    return self._asset(request, dandiset.id, version, asset, view)
        raise _Refusal(404, "Not found.")

    def _view(self, assets, asset_id, view):
        asset = next((one for one in assets.values() if one.item["asset_id"] == asset_id), None)
        if asset is None:
            raise _Refusal(404, "Not found.")
        if view == "info":
            return asset.item | {"metadata": asset.metadata}
        if view is None:
            return asset.metadata
        if asset.item["zarr"]:
            raise _Refusal(400, "Unable to provide download link for zarr assets.")
        return Reply(302, b"", {"Location": self.bucket.signed(asset.key, self.lifetime)})

    def _allowed(self, request, id):
        given = request.authorization
        if given:
            self._token(request)
        if id not in self.dandisets:
            raise _Refusal(404, "Not found.")
        if self.dandisets[id].is_embargoed and given != f"token {TOKEN}":
            raise _Refusal(403 if given else 401, "Not yours." if given else "No credentials.")
        return self.dandisets[id]

    def _assets_of(self, request, id, version):
        versions = self._allowed(request, id).versions
        if version not in versions:
            raise _Refusal(404, "Not found.")
        return versions[version]

    def _identity(self, dandiset):
        status = "EMBARGOED" if dandiset.is_embargoed else "OPEN"
        return {"identifier": dandiset.id, "embargo_status": status, "contact_person": "Doe, Jane"} | _DATES

    def _about(self, dandiset, version):
        assets = dandiset.versions[version].values()
        status = "Valid" if version == "draft" else "Published"
        size = sum(one.item["size"] for one in assets)
        about = {"version": version, "name": "Small", "asset_count": len(assets), "size": size, "status": status}
        return about | _DATES | {"dandiset": self._identity(dandiset)}

    def _page(self, request, items):
        query = request.query
        size, page = min(int(query.get("page_size", self.page_size)), 1000), int(query.get("page", 1))
        if page > 1 and (page - 1) * size >= len(items):
            raise _Refusal(404, "Invalid page.")

        def link(number):
            return f"{self.api.url}{request.path}?{urlencode(query | {'page': number})}"

        return {
            "count": len(items) if page == 1 else None,
            "next": link(page + 1) if page * size < len(items) else None,
            "previous": link(page - 1) if page > 1 else None,
            "results": items[(page - 1) * size : page * size],
        }


_DATES = {"created": _NOW, "modified": _NOW}


def _json(answer, status=200):
    return Reply(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})


@contextlib.contextmanager
def without_accounts(folder):
    """Keep the keys, keyrings and files of whoever runs this out of the block; `folder` stands for the home folder."""
    changes = dict.fromkeys(
        ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"), str(folder)
    )
    changes |= {"DANDI_NO_ET": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    with mock.patch.dict(os.environ, changes):
        for name in [name for name in os.environ if name.endswith("_API_KEY")]:
            del os.environ[name]
        yield

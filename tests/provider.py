"""A provider of identities (OpenID Connect) on this machine, which lets in whoever comes."""

from __future__ import annotations

import hashlib
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from flask import Flask, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from joserfc.jws import JWSRegistry
from werkzeug.serving import make_server

CLIENT, SECRET = "jobkit", "the client's secret"
Bend = Callable[[dict[str, Any], dict[str, Any]], None]
"""Changes the claims and the header of a token before it is signed."""


class LocalProvider:
    """What it says of who comes next can be changed between two sign-ins."""

    def __init__(self) -> None:
        self.address = ""
        self.now: float = time.time()
        self.person: dict[str, Any] = {"sub": "1001", "preferred_username": "anna"}
        self.more: dict[str, Any] = {}
        """What only /userinfo says."""
        self.bend: Bend = lambda claims, header: None
        self.discovery: dict[str, Any] = {}
        """What it says of itself that is not so."""
        self.refuses = False
        self.asked = 0
        self.new_key()
        self._codes: dict[str, dict[str, str]] = {}
        self.app = Flask("provider")
        self.app.get("/.well-known/openid-configuration")(self._metadata)
        self.app.get("/authorize")(self._authorize)
        self.app.post("/token")(self._token)
        self.app.get("/jwks")(self._keys)
        self.app.get("/userinfo")(self._person)

    def new_key(self, *, published: bool = True) -> None:
        """Sign with another key from now on, which may be one that nobody is told of."""
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        if published:
            self._public = KeySet([RSAKey.import_key(self.key.as_dict(private=False))])

    def _metadata(self) -> Any:
        self.asked += 1
        names = ("authorize", "token", "jwks", "userinfo")
        where = dict(zip(names, (f"{self.address}/{name}" for name in names), strict=True))
        return jsonify(
            {
                "issuer": self.address,
                "authorization_endpoint": where["authorize"],
                "token_endpoint": where["token"],
                "jwks_uri": where["jwks"],
                "userinfo_endpoint": where["userinfo"],
            }
            | self.discovery
        )

    def _keys(self) -> Any:
        return jsonify(self._public.as_dict(private=False))

    def _person(self) -> Any:
        return jsonify(self.person | self.more)

    def _authorize(self) -> Any:
        given = request.args
        assert (given["response_type"], given["client_id"]) == ("code", CLIENT)
        assert given["code_challenge_method"] == "S256"
        if self.refuses:
            answer = {"error": "access_denied", "state": given["state"]}
            return redirect(f"{given['redirect_uri']}?{urlencode(answer)}")
        code = f"code-{len(self._codes) + 1}"
        self._codes[code] = given.to_dict()
        answer = {"code": code, "state": given["state"], "iss": self.address}
        return redirect(f"{given['redirect_uri']}?{urlencode(answer)}")

    def _token(self) -> Any:
        basic = b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        assert request.headers["Authorization"] == f"Basic {basic}"
        begun = self._codes.pop(request.form["code"], None)
        verifier = request.form["code_verifier"].encode()
        challenge = urlsafe_b64encode(hashlib.sha256(verifier).digest()).decode().rstrip("=")
        is_good = begun is not None and begun["code_challenge"] == challenge
        if begun is None or not is_good or begun["redirect_uri"] != request.form["redirect_uri"]:
            return jsonify({"error": "invalid_grant"}), 400
        now = int(self.now)
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 300}
        claims |= {"nonce": begun["nonce"], **self.person}
        header: dict[str, Any] = {"alg": "RS256", "kid": self.key.kid}
        self.bend(claims, header)
        tokens = {"access_token": "a", "token_type": "Bearer"}
        return jsonify(tokens | {"id_token": self._signed(claims, header)})

    def _signed(self, claims: dict[str, Any], header: dict[str, Any]) -> str:
        key: Any = self.key
        if header["alg"] == "HS256":  # by what everybody may know
            key = OctKey.import_key(self.key.as_pem(private=False))
        registry = JWSRegistry(algorithms=["RS256", "HS256", "none"])
        return jwt.encode(header, claims, key, registry=registry)


@contextmanager
def running() -> Iterator[LocalProvider]:
    """Run a provider for a while."""
    provider = LocalProvider()
    server = make_server("127.0.0.1", 0, provider.app, threaded=True)
    provider.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()

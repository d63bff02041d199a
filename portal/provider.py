"""The provider of single sign-on: OpenID Connect by code, with PKCE, state and nonce."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jobkit
from jobkit.clock import stopwatch
from jobkit.settings import Settings, is_private_url

SIGNED_BY = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""With a key of the provider: what `none` signs, or a secret that others have, proves nothing."""
SECONDS = 10
"""How long the provider may take to answer."""
KNOWN_SECONDS = 3600
"""How long its addresses and keys are kept."""
LEEWAY_SECONDS = 60
"""By how much its clock may be another."""
NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True)
class Identity:
    """Who somebody is to the provider."""

    subject: str
    """The issuer and its name for them, which is nobody else's and stays."""
    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """One try to sign in, by one browser: all that it is told apart by comes from one secret."""

    secret: str

    @property
    def state(self) -> str:
        """What must come back with the code: only this browser began."""
        return self._part("state")

    @property
    def nonce(self) -> str:
        """What the provider signs: the token was made for this try."""
        return self._part("nonce")

    @property
    def verifier(self) -> str:
        """What the code is exchanged with: whoever else sees the code cannot use it."""
        return self._part("verifier")

    def _part(self, name: str) -> str:
        return hashlib.sha256(f"{name} {self.secret}".encode()).hexdigest()


class Provider:
    """What is known of the provider; any thread may ask."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.issuer = str(settings.oidc_issuer)
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] | None = None

    def address(self, attempt: Attempt, callback: str) -> str:
        """Return where a browser goes to sign in; Refused when the provider is away."""
        with self._session(callback) as session:
            url, _ = session.create_authorization_url(
                self._metadata()["authorization_endpoint"],
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url)

    def identity(self, attempt: Attempt, callback: str, code: str, now: float) -> Identity:
        """Return who came back with a code; `now` is in seconds of the epoch.

        1. The code is exchanged for tokens, with the verifier that only this portal has.
        2. The identity's token is signed by a key of the provider, for this client and this try.
        3. What it does not say of name and groups, the provider is asked for.

        Refused when any of it does not hold.
        """
        from authlib.common.errors import AuthlibBaseError
        from joserfc.errors import JoseError
        from requests import RequestException

        try:
            with self._session(callback) as session:
                metadata = self._metadata()
                token = session.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=attempt.verifier
                )
                claims = self._proven(token, attempt.nonce, now)
                missing = {self._settings.oidc_name_claim, self._settings.oidc_groups_claim}
                if missing - claims.keys() and "userinfo_endpoint" in metadata:
                    claims = self._more(session, metadata["userinfo_endpoint"]) | claims
        except (AuthlibBaseError, JoseError, RequestException, ValueError, KeyError) as error:
            raise _unproven(error) from error
        return self._pictured(claims)

    def _session(self, callback: str) -> Any:
        from authlib.integrations.requests_client import OAuth2Session

        return OAuth2Session(
            self._settings.oidc_client_id,
            self._settings.oidc_client_secret,
            scope=self._settings.oidc_scopes,
            redirect_uri=callback,
            code_challenge_method="S256",
            default_timeout=SECONDS,
        )

    def _metadata(self) -> dict[str, Any]:
        """Return what the provider says of itself; it must be the one that was named."""
        with self._lock:
            if self._known is not None and stopwatch() - self._known[0] < KNOWN_SECONDS:
                return self._known[1]
        found = _fetch(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise _unproven(f"it calls itself {found.get('issuer')!r}")
        for name in NEEDED:
            if not is_private_url(str(found.get(name, ""))):
                raise _unproven(f"its {name} is not at an address by https")
        found["keys"] = _fetch(found["jwks_uri"])
        with self._lock:
            self._known = stopwatch(), found
        return found

    def _proven(self, token: Mapping[str, Any], nonce: str, now: float) -> dict[str, Any]:
        """Return what the provider signed of somebody, for this client and this try."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError
        from joserfc.jwk import KeySet
        from joserfc.jws import JWSRegistry

        registry = JWSRegistry(algorithms=list(SIGNED_BY), strict_check_header=False)

        def read() -> Any:
            keys = KeySet.import_key_set(self._metadata()["keys"])
            return jwt.decode(token["id_token"], keys, registry=registry)

        try:
            signed = read()
        except InvalidKeyIdError:  # it may have a fresh key
            with self._lock:
                self._known = None
            signed = read()
        client = self._settings.oidc_client_id
        wanted = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": client},
            "nonce": {"essential": True, "value": nonce},
        }
        given = {"nonce": nonce, "client_id": client, "access_token": token.get("access_token")}
        claims = CodeIDToken(signed.claims, signed.header, wanted, given)
        claims.validate(now=int(now), leeway=LEEWAY_SECONDS)
        return dict(claims)

    def _more(self, session: Any, address: str) -> dict[str, Any]:
        if not is_private_url(address):
            return {}
        answer = session.get(address)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _pictured(self, claims: Mapping[str, Any]) -> Identity:
        chosen = self._settings
        name = claims.get(chosen.oidc_name_claim) or claims.get("email") or claims["sub"]
        groups = claims.get(chosen.oidc_groups_claim) or ()
        if isinstance(groups, str):
            groups = (groups,)
        return Identity(f"{self.issuer} {claims['sub']}", str(name), tuple(map(str, groups)))


def _fetch(address: str) -> dict[str, Any]:
    import requests

    try:
        answer = requests.get(address, timeout=SECONDS, allow_redirects=False)
        answer.raise_for_status()
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise _unproven(error) from error
    if not isinstance(found, dict):
        raise _unproven(f"{address} answers with no object")
    return found


def _unproven(why: object) -> jobkit.Refused:
    return jobkit.Refused(
        f"Single sign-on did not work: {str(why)[:300]}.",
        "Try again; if it stays so, ask who looks after the portal.",
    )

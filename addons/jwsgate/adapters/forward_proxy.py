"""The gate as the HTTP proxy of a command whose URLs cannot be changed: what the command's environment has to say."""

import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import certifi
from mitmproxy import exceptions

__all__ = ["ca_bundle", "proxy_environment"]

_PROXY: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_BUNDLE: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


def ca_bundle(ca_file: Path, environment: Mapping[str, str]) -> IO[str]:
    """A temporary file with all CA certificates that the caller's programs know, and one more; closing it removes it.

    Known are those of the files that the environment names, and the system's, or where there are none certifi's.

    Raises:
        mitmproxy.exceptions.OptionsError: when it cannot be made.
    """
    # The default is that of SSL_CERT_FILE, where there is one.
    known = [ssl.get_default_verify_paths().cafile or certifi.where(), *map(environment.get, _BUNDLE)]
    try:
        # Some programs take such a file in place of the system's, and may call hosts past the proxy as well.
        texts = [Path(file).read_text("utf-8") for file in dict.fromkeys(filter(None, known)) if Path(file).is_file()]
        text = "\n".join([*texts, ca_file.read_text("ascii")])
        bundle = tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="jwsgate-ca-", suffix=".pem")  # noqa: SIM115 - it stays as long as the command
        bundle.write(text)
        bundle.flush()
    except (OSError, UnicodeDecodeError) as error:
        raise exceptions.OptionsError(f"the command's CA certificates cannot be put together: {error}") from None
    return bundle


def proxy_environment(environment: Mapping[str, str], address: str, *, bundle: str) -> dict[str, str]:
    """The command's environment: the caller's, with the gate at `HOST:PORT` as the proxy of all that it calls.

    No host is left out, loopback neither: what goes past the gate shows nothing.
    """
    return {
        **environment,
        **dict.fromkeys(_PROXY, f"http://{address}"),
        **dict.fromkeys(_NO_PROXY, ""),
        **dict.fromkeys(_BUNDLE, bundle),
    }

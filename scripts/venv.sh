# Sourced by run_proxy.sh, run_tests.sh and .ci/run, in the project's folder: makes .venv when it is missing or out of date.
# jwsgate_venv EXTRAS: EXTRAS is "" or "[test]".

jwsgate_python() {
    # The first Python that fits; pyenv's and uv's choice by .python-version comes first.
    local candidate others=""
    if command -v pyenv >/dev/null 2>&1; then
        # Its shims run nothing when the version that .python-version asks for is missing; another may fit as well.
        others="$(pyenv versions --bare 2>/dev/null | sort -rV | sed "s|.*|$(pyenv root)/versions/&/bin/python|")"
    fi
    for candidate in python3 python3.13 python3.12 python3.14 python $others /usr/bin/python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

jwsgate_venv() {
    local extras="$1" wanted python
    wanted="$extras $(cksum <pyproject.toml)"
    # An environment with the test extra serves the proxy too.
    if [ -x .venv/bin/python ] && [ -r .venv/jwsgate-installed ] && .venv/bin/python -c '' 2>/dev/null; then
        case "$(cat .venv/jwsgate-installed)" in
            "$wanted" | "[test] ${wanted#* }") return 0 ;;
        esac
    fi
    if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        rm -rf .venv
        if python="$(jwsgate_python)"; then
            "$python" -m venv .venv || return 1
        elif command -v uv >/dev/null 2>&1; then
            uv venv --quiet --seed --python '>=3.12' .venv || return 1
        else
            echo "jwsgate needs Python 3.12 or newer with venv, and found none: install it (for example: pyenv install 3.13, or uv)." >&2
            return 1
        fi
    fi
    echo "jwsgate: installing into .venv (once) ..." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extras" >&2 || {
        echo "jwsgate: pip could not install what pyproject.toml names; see its message above." >&2
        return 1
    }
    printf '%s' "$wanted" >.venv/jwsgate-installed
}

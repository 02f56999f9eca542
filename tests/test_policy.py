"""Path patterns and the router: which route a request belongs to, and that a slower reading agrees."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jwsgate.core.policy import PathPattern, PatternError, Route, RouteConflict, Router
from jwsgate.core.reasons import Reason, Rejection
from unit_material import route

# Patterns


@pytest.mark.parametrize(
    ("text", "segments", "prefix"),
    [
        pytest.param("/", ("",), False, id="root"),
        pytest.param("/a", ("a",), False, id="segment"),
        pytest.param("/a/", ("a", ""), False, id="trailing-slash"),
        pytest.param("/a/b/c", ("a", "b", "c"), False, id="segments"),
        pytest.param("/**", (), True, id="everything"),
        pytest.param("/a/**", ("a",), True, id="prefix"),
        pytest.param("/{a}", (None,), False, id="template"),
        pytest.param("/{a}/b/{c_1-d}", (None, "b", None), False, id="templates"),
        pytest.param("/{a}/**", (None,), True, id="template-and-prefix"),
        pytest.param("/a.b-c_d~e", ("a.b-c_d~e",), False, id="unreserved"),
        pytest.param("/!$&'()+,=:@", ("!$&'()+,=:@",), False, id="reserved-in-segments"),
        pytest.param("/%C3%A9", ("%C3%A9",), False, id="escapes"),
        pytest.param("/...", ("...",), False, id="three-dots"),
        pytest.param("/.a", (".a",), False, id="leading-dot"),
    ],
)
def test_patterns(text: str, segments: tuple[str | None, ...], prefix: bool) -> None:
    """What a pattern reads as."""
    assert PathPattern(segments, prefix) == PathPattern.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/b",
        "**",
        "*",
        " /a",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/a//**",
        "/./a",
        "/a/.",
        "/a/..",
        "/../**",
        "/*",
        "/a/*",
        "/a*",
        "/a/***",
        "/**/",
        "/**/a",
        "/a**",
        "/{a}*",
        "/{}",
        "/{a",
        "/a}",
        "/{a}b",
        "/a{b}",
        "/{a}{b}",
        "/{1a}",
        "/{a b}",
        "/{a/b}",
        "/{*a}",
        "/a b",
        "/a\tb",
        "/a\n",
        "/a\0",
        "/a?b",
        "/a#b",
        "/a\\b",
        '/"a"',
        "/<a>",
        "/a|b",
        "/^a$",
        "/é",
        "/日本",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%c3%a9",
        "/:id",
        "/a/:id/b",
        "/{a}/b/{a}",
        "https://a/b",
    ],
)
def test_no_patterns(text: str) -> None:
    """What no request's path could be, or what other products mean by it, is refused with words."""
    with pytest.raises(PatternError) as caught:
        PathPattern.parse(text)
    assert str(caught.value)


@given(st.text(max_size=12) | st.text("/{}*.%aA4;é", max_size=12).map("/".__add__))
def test_any_text_as_pattern(text: str) -> None:
    """A pattern or a `PatternError`; a pattern's literals are plain, and only its last may be empty."""
    try:
        pattern = PathPattern.parse(text)
    except PatternError:
        return
    assert text.startswith("/")
    assert all(segment is None or (segment and "/" not in segment) for segment in pattern.segments[:-1])
    assert not (pattern.prefix and "" in pattern.segments)


# The router


def named(router: Router, method: str, path: str) -> str | None:
    """The name of the route for a method and a path."""
    found = router.match(method, tuple(path.removeprefix("/").split("/")))
    return found.name if found else None


def router_of(*routes: Route) -> Router:
    """A router with routes added in order."""
    router = Router()
    for each in routes:
        router.add(each)
    return router


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        pytest.param("/", "/", True, id="root"),
        pytest.param("/", "/a", False, id="root-is-not-everything"),
        pytest.param("/a", "/a", True, id="literal"),
        pytest.param("/a", "/A", False, id="letter-case-counts"),
        pytest.param("/a", "/a/", False, id="trailing-slash-counts"),
        pytest.param("/a/", "/a", False, id="missing-slash-counts"),
        pytest.param("/a/", "/a/", True, id="trailing-slash"),
        pytest.param("/a", "/a/b", False, id="longer"),
        pytest.param("/a/b", "/a", False, id="shorter"),
        pytest.param("/a", "/ab", False, id="no-prefix-of-text"),
        pytest.param("/{a}", "/x", True, id="template"),
        pytest.param("/{a}", "/", False, id="template-is-never-empty"),
        pytest.param("/a/{b}", "/a/", False, id="template-is-never-the-empty-last"),
        pytest.param("/{a}", "/x/y", False, id="template-is-one-segment"),
        pytest.param("/{a}/b", "/x/b", True, id="template-then-literal"),
        pytest.param("/{a}/b", "/x/c", False, id="template-then-other-literal"),
        pytest.param("/**", "/", True, id="everything-has-the-root"),
        pytest.param("/**", "/a/b/c/", True, id="everything"),
        pytest.param("/a/**", "/a", True, id="prefix-itself"),
        pytest.param("/a/**", "/a/", True, id="prefix-with-slash"),
        pytest.param("/a/**", "/a/b/c", True, id="beneath"),
        pytest.param("/a/**", "/ab", False, id="prefix-of-segments-not-of-text"),
        pytest.param("/{a}/b/**", "/x/b/c", True, id="template-in-prefix"),
        pytest.param("/{a}/b/**", "/x/c/b", False, id="template-in-prefix-elsewhere"),
        pytest.param("/%C3%A9", "/%C3%A9", True, id="escape"),
        pytest.param("/a:b", "/a:b", True, id="colon"),
        pytest.param("/{a}", "/{a}", True, id="template-takes-braces"),
        pytest.param("/{a}", "/**", True, id="template-takes-stars"),
    ],
)
def test_matching(pattern: str, path: str, matches: bool) -> None:
    """One route, one path."""
    assert (pattern if matches else None) == named(router_of(route(pattern, name=pattern)), "GET", path)


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        pytest.param(["/{x}", "/a"], "/a", "/a", id="literal-before-template"),
        pytest.param(["/a/**", "/{x}"], "/a", "/a/**", id="literal-prefix-before-template"),
        pytest.param(["/a/**", "/a"], "/a", "/a", id="exact-before-prefix"),
        pytest.param(["/**", "/{x}"], "/a", "/{x}", id="template-before-prefix"),
        pytest.param(["/**", "/a/**", "/a/b/**"], "/a/b/c", "/a/b/**", id="longest-prefix"),
        pytest.param(["/**", "/a/**", "/a/b/**"], "/a/c", "/a/**", id="next-prefix"),
        pytest.param(["/**", "/a/**", "/a/b/**"], "/b", "/**", id="shortest-prefix"),
        pytest.param(["/a/{x}", "/{x}/b"], "/a/b", "/a/{x}", id="earlier-literal-wins"),
        pytest.param(["/a/{x}/c", "/{x}/b/d"], "/a/b/d", "/{x}/b/d", id="back-to-the-template"),
        pytest.param(["/a/b/c", "/{x}/**"], "/a/b/d", "/{x}/**", id="back-to-the-prefix-of-a-template"),
        pytest.param(["/a/b/c", "/a/**", "/{x}/b/d"], "/a/b/d", "/a/**", id="prefix-of-the-literal-first"),
        pytest.param(["/{x}/b/**", "/a/{x}/**"], "/a/b/c", "/a/{x}/**", id="earlier-literal-wins-in-prefixes"),
        pytest.param(["/a/", "/a/**"], "/a/", "/a/", id="trailing-slash-before-prefix"),
        pytest.param(["/a/b", "/a/c"], "/a/d", None, id="none"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True], ids=["as-written", "backwards"])
def test_specificity(patterns: list[str], path: str, expected: str | None, backwards: bool) -> None:
    """The most specific route wins, whatever the order of the policy."""
    routes = [route(pattern, name=pattern) for pattern in (reversed(patterns) if backwards else patterns)]
    assert expected == named(router_of(*routes), "GET", path)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        pytest.param("GET", "/a", "get", id="its-method"),
        pytest.param("POST", "/a", "post-put", id="one-of-its-methods"),
        pytest.param("DELETE", "/a", "any", id="every-other-method"),
        pytest.param("HEAD", "/a", "any", id="head-is-not-get"),
        pytest.param("get", "/a", "any", id="letter-case-of-methods-counts"),
        pytest.param("", "/a", "any", id="empty-method"),
        pytest.param("GET", "/b", "get-b", id="its-method-there"),
        pytest.param("PUT", "/b", None, id="not-to-the-template"),
        pytest.param("DELETE", "/b", None, id="not-to-the-prefix"),
        pytest.param("GET", "/c", None, id="not-past-the-template"),
        pytest.param("HEAD", "/b", None, id="head-not-past-a-strict-get"),
    ],
)
def test_methods(method: str, path: str, expected: str | None) -> None:
    """A route for the method before one for all; a path without the method falls to no laxer route."""
    router = router_of(
        route("/a", name="any"),
        route("/a", {"GET"}, name="get"),
        route("/a", {"POST", "PUT"}, name="post-put"),
        route("/b", {"GET"}, name="get-b"),
        route("/c", {"POST"}, name="post-c"),
        route("/{x}", {"PUT"}, name="put-template"),
        route("/**", name="rest"),
    )
    assert expected == named(router, method, path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("/a", None), ("/a", None), id="all-and-all"),
        pytest.param(("/a", {"GET"}), ("/a", {"GET"}), id="same-method"),
        pytest.param(("/a", {"GET", "PUT"}), ("/a", {"POST", "PUT"}), id="one-method-in-both"),
        pytest.param(("/{a}", None), ("/{b}", None), id="template-names-do-not-matter"),
        pytest.param(("/{a}/x/{b}", None), ("/{b}/x/{a}", None), id="two-templates"),
        pytest.param(("/a/**", None), ("/a/**", None), id="prefixes"),
        pytest.param(("/**", {"GET"}), ("/**", {"GET"}), id="everything"),
    ],
)
def test_conflicts(first: tuple[str, set[str] | None], second: tuple[str, set[str] | None]) -> None:
    """Two routes for the same requests leave open which one counts; the earlier one is named."""
    router = router_of(route(*first, name="first"))
    with pytest.raises(RouteConflict, match="matches the same requests as first") as caught:
        router.add(route(*second, name="second"))
    assert caught.value.other == "first"
    assert [each.name for each in router] == ["first"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("/a", {"GET"}), ("/a", {"PUT"}), id="other-method"),
        pytest.param(("/a", {"GET"}), ("/a", None), id="one-method-and-all"),
        pytest.param(("/a", None), ("/a", {"GET"}), id="all-and-one-method"),
        pytest.param(("/a", None), ("/a/", None), id="trailing-slash"),
        pytest.param(("/a", None), ("/a/**", None), id="exact-and-prefix"),
        pytest.param(("/a", None), ("/A", None), id="letter-case"),
        pytest.param(("/{a}", None), ("/b", None), id="template-and-literal"),
        pytest.param(("/a/{b}", None), ("/{a}/b", None), id="crossed-templates"),
    ],
)
def test_no_conflicts(first: tuple[str, set[str] | None], second: tuple[str, set[str] | None]) -> None:
    """Routes that differ in how specific they are live together."""
    assert len(router_of(route(*first), route(*second))) == 2


def test_shared_set_of_methods_conflicts() -> None:
    """The same set object in two routes is as good as two equal ones."""
    first = route("/a", {"GET"}, name="first")
    with pytest.raises(RouteConflict):
        router_of(first, replace(first, name="second"))


def test_iteration() -> None:
    """Routes come out in the order in which they were added."""
    routes = [route("/b"), route("/a/**"), route("/a"), route("/{x}")]
    router = router_of(*routes)
    assert routes == list(router)
    assert len(routes) == len(router)


def test_empty_router() -> None:
    """No route matches nothing."""
    assert Router().match("GET", ("",)) is None


def test_refused_route_leaves_no_trace() -> None:
    """A conflict changes no decision."""
    router = router_of(route("/a/b", {"GET"}, name="first"))
    with pytest.raises(RouteConflict):
        router.add(route("/a/b", {"GET", "POST"}, name="second"))
    assert named(router, "POST", "/a/b") is None


@pytest.mark.timeout(20)
def test_deep_paths_cost_no_stack() -> None:
    """A request's path may have any number of segments."""
    router = router_of(route("/{a}/{b}/c", name="c"), route("/a/**", name="a"), route("/**", name="rest"))
    deep = ("a",) * 100_000
    found = [router.match("GET", segments) for segments in (deep, ("b", *deep), (*deep, ""))]
    assert [each.name if each else None for each in found] == ["a", "rest", "a"]


@pytest.mark.timeout(20)
def test_many_routes() -> None:
    """Ten thousand routes: each is found among them."""
    router = router_of(*(route(f"/r{n}/{{x}}", name=str(n)) for n in range(10_000)), route("/**", name="rest"))
    assert [named(router, "GET", f"/r{n}/y") for n in (0, 5000, 9999, 10_000)] == ["0", "5000", "9999", "rest"]


# Against a naive reading

METHODS = ["GET", "PUT", "HEAD"]


def naive_matches(pattern: PathPattern, segments: tuple[str, ...]) -> bool:
    """Whether a pattern matches, segment by segment."""
    if len(segments) < len(pattern.segments) or (len(segments) > len(pattern.segments) and not pattern.prefix):
        return False
    return all(
        given == wanted if wanted is not None else given != ""
        for given, wanted in zip(segments, pattern.segments, strict=False)
    )


def naive_rank(candidate: Route) -> tuple[object, ...]:
    """How specific a route is: literal before template before the end of a prefix; then exact; then its methods."""
    steps = tuple(1 if segment is None else 2 for segment in candidate.pattern.segments)
    return (*steps, 0 if candidate.pattern.prefix else 3, candidate.methods is not None)


def naive_match(routes: list[Route], method: str, segments: tuple[str, ...]) -> Route | None:
    """Of the routes of the most specific path that matches, the one for the method."""
    on_path = [each for each in routes if naive_matches(each.pattern, segments)]
    best = max((naive_rank(each)[:-1] for each in on_path), default=None)
    candidates = [
        each for each in on_path if naive_rank(each)[:-1] == best and (each.methods is None or method in each.methods)
    ]
    return max(candidates, key=naive_rank, default=None)


def naive_conflict(one: Route, other: Route) -> bool:
    """Whether two routes match the same paths and one of the same methods."""
    if one.pattern != other.pattern:
        return False
    if one.methods is None or other.methods is None:
        return one.methods is other.methods
    return bool(one.methods & other.methods)


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """A pattern over a small alphabet, so that many collide."""
    kinds = draw(st.lists(st.sampled_from(["a", "b", "{x%d}", "{y%d}"]), max_size=4))
    segments = [kind.replace("%d", str(number)) for number, kind in enumerate(kinds)]
    end = draw(st.sampled_from(["", "", "/", "/**"]))
    return ("/" + "/".join(segments) if segments else "") + end or "/"


METHOD_SETS = st.none() | st.sets(st.sampled_from(METHODS), min_size=1)
PATHS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=5).flatmap(
    lambda segments: st.sampled_from([tuple(segments) or ("",), (*segments, "")])
)


class RouterAgainstModel(RuleBasedStateMachine):
    """Adds routes in any order, and compares each decision with the naive reading."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router()
        self.model: list[Route] = []

    @rule(pattern=patterns(), methods=METHOD_SETS)
    def add(self, pattern: str, methods: set[str] | None) -> None:
        """A route is added, or refused as the model says."""
        new = route(pattern, methods, name=f"{len(self.model)} {pattern}")
        others = [each for each in self.model if naive_conflict(each, new)]
        if others:
            with pytest.raises(RouteConflict) as caught:
                self.router.add(new)
            assert caught.value.other in {each.name for each in others}
        else:
            self.router.add(new)
            self.model.append(new)

    @rule(method=st.sampled_from(METHODS), segments=PATHS)
    def match(self, method: str, segments: tuple[str, ...]) -> None:
        """The same route is found."""
        assert naive_match(self.model, method, segments) is self.router.match(method, segments)

    @invariant()
    def same_routes(self) -> None:
        """The same routes, in the same order."""
        assert self.model == list(self.router)


TestRouterAgainstModel = RouterAgainstModel.TestCase


@given(
    st.lists(st.tuples(patterns(), METHOD_SETS), max_size=12),
    st.lists(st.tuples(st.sampled_from(METHODS), PATHS), min_size=1, max_size=12),
)
def test_router_against_a_naive_matcher(
    policy: list[tuple[str, set[str] | None]], requests: list[tuple[str, tuple[str, ...]]]
) -> None:
    """Any policy, any requests: the tree and the naive reading agree."""
    router = Router()
    for number, (pattern, methods) in enumerate(policy):
        try:
            router.add(route(pattern, methods, name=str(number)))
        except RouteConflict:
            continue
    for method, segments in requests:
        assert naive_match(list(router), method, segments) is router.match(method, segments)


STRICT = ("/orders:approve", "/users/@me", "/pay/$batch", "/strict", "/narrow/**", "/exact/")
"""Routes that somebody made stricter than the `/**` beside them."""


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/orders%3Aapprove", id="escaped-colon"),
        pytest.param(b"/orders%3aapprove", id="escaped-colon-in-small-letters"),
        pytest.param(b"/users/%40me", id="escaped-at"),
        pytest.param(b"/pay/%24batch", id="escaped-dollar"),
        pytest.param(b"/strict;v=1", id="path-parameter"),
        pytest.param(b"/strict%3Bv=1", id="escaped-path-parameter"),
        pytest.param(b"/narrow;v=1/x", id="path-parameter-before-the-end"),
        pytest.param(b"/strict%20", id="white-space-behind"),
        pytest.param(b"/%20strict", id="white-space-before"),
        pytest.param(b"/x/..%3Bq/strict", id="dot-segment-with-escaped-parameter"),
        pytest.param(b"/x/..%20/strict", id="dot-segment-with-white-space"),
        pytest.param(b"/x/%2e%2e%3b/strict", id="escaped-dot-segment-with-parameter"),
        pytest.param(b"/strict/", id="one-slash-more"),
        pytest.param(b"/exact", id="one-slash-less"),
    ],
)
def test_no_other_spelling_leads_past_a_strict_route(target: bytes) -> None:
    """What an upstream may read as the strict route's path never goes by a laxer route."""
    router = router_of(*(route(path, name=path) for path in STRICT), route("/**", name="lax"))
    with pytest.raises(Rejection) as caught:
        router.find("POST", target)
    assert caught.value.reason == Reason.REQUEST_UNSAFE


SLASHES = {
    "lax prefix": (("/**", None), ("/admin", {"GET"})),
    "lax prefix, slash of the strict one": (("/**", None), ("/admin/", {"GET"})),
    "lax template": (("/{page}", None), ("/admin/", {"GET"})),
    "lax template, slash of the lax one": (("/{page}/", None), ("/admin", {"GET"})),
    "lax template, deeper": (("/{a}/{b}", None), ("/{a}/admin/", {"GET"})),
    "lax prefix below": (("/v/**", None), ("/v/{page}/", {"GET"})),
}
"""A lax route for every method, and beside it a strict one for GET that differs by a slash at its end."""


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(("lax", "strict"), SLASHES.values(), ids=SLASHES)
def test_no_slash_leads_past_a_strict_route(
    lax: tuple[str, set[str] | None], strict: tuple[str, set[str] | None], method: str
) -> None:
    """A slash more or less at the end does not lead to a laxer route, whichever methods the strict one has."""
    router = router_of(route(lax[0], lax[1], name="lax"), route(strict[0], strict[1], name="strict"))
    path = strict[0].replace("{a}", "v").replace("{page}", "admin")
    for suffix in ("", ";", ";v=1"):
        target = path[:-1] + suffix if path.endswith("/") else f"{path}/{suffix}"
        with pytest.raises(Rejection) as caught:
            router.find(method, target.encode())
        assert caught.value.reason == Reason.REQUEST_UNSAFE
    found = router.find(method, path.encode())
    assert (found is not None and found.name) == ("strict" if method == "GET" else False)


@given(
    st.lists(st.tuples(patterns(), METHOD_SETS), max_size=8),
    st.lists(st.tuples(st.sampled_from(METHODS), PATHS), min_size=1, max_size=12),
)
def test_with_or_without_a_slash_the_most_specific_path_decides(
    policy: list[tuple[str, set[str] | None]], requests: list[tuple[str, tuple[str, ...]]]
) -> None:
    """What passes has no path beside it, a slash more or less, that a strict upstream would match before it."""
    router = Router()
    for number, (pattern, methods) in enumerate(policy):
        with contextlib.suppress(RouteConflict):
            router.add(route(pattern, methods, name=str(number)))

    def rank(pattern: PathPattern) -> tuple[list[int], bool]:
        """Plain segments before templates before what a prefix covers; a whole path before a prefix."""
        plain = pattern.segments[:-1] if pattern.segments[-1:] == ("",) else pattern.segments
        return [1 if segment is None else 2 for segment in plain], not pattern.prefix

    for method, segments in requests:
        toggled = segments[:-1] if segments[-1] == "" else (*segments, "")
        try:
            found = router.find(method, b"/" + "/".join(segments).encode())
        except Rejection:
            continue
        if found is not None:
            beside = [each.pattern for each in router if toggled and each.pattern.matches(toggled)]
            assert all(rank(pattern) <= rank(found.pattern) for pattern in beside)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(b"/users/a%40b.example", "/users/{id}", id="escape-in-a-template"),
        pytest.param(b"/users/a;v=1", "/users/{id}", id="parameter-in-a-template"),
        pytest.param(b"/other%3Athing/", "/**", id="nothing-strict-near"),
        pytest.param(b"/both/", "/both/", id="slash-of-its-own"),
        pytest.param(b"/both", "/both", id="and-without"),
        pytest.param(b"/tree/", "/tree/**", id="slash-below-a-prefix"),
        pytest.param(b"/caf%c3%a9", "/caf%C3%A9", id="literal-beyond-ascii"),
    ],
)
def test_harmless_spellings_pass(target: bytes, expected: str) -> None:
    """Escapes, parameters and slashes that lead to the same route either way are nobody's concern."""
    router = router_of(
        *(route(path, name=path) for path in ("/users/{id}", "/both", "/both/", "/tree/**", "/caf%C3%A9", "/**"))
    )
    found = router.find("GET", target)
    assert found is not None
    assert expected == found.name


@pytest.mark.parametrize("path", ["/a%3Ab", "/a;b", "/a/%40me"])
def test_patterns_that_requests_are_not_matched_by(path: str) -> None:
    """A literal is written with the characters themselves: there the two readings of a request meet."""
    with pytest.raises(PatternError):
        PathPattern.parse(path)

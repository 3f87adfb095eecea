"""What evidence proves, and every way in which it proves nothing."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.names.certificates import BEGIN_CERTIFICATE, END_CERTIFICATE, public_roots
from onionmpc.names.evidence import MAX_PIECE_BYTES
from onionmpc.names.examine import examine, examine_review
from onionmpc.names.findings import Finding, Grade
from onionmpc.names.ssh import BEGIN_SIGNATURE
from onionmpc.names.statement import StatementPurpose, format_statement
from onionmpc.names.trust import MAX_COMPANIES, Trust
from onionmpc.names.warnings_of_certificates import without_warnings
from tests.support.evidence import (
    CONTEXT,
    ME,
    NOW,
    OTHER,
    PROGRAM,
    REVIEW,
    STATEMENT,
    Authority,
    SshKey,
    make_ssh_key,
    pem,
    sauteed,
    trusting,
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    return make_ssh_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def trust(key: SshKey) -> Trust:
    return trusting(f"alice {key.public}\n")


def nothing(finding: Finding, words: str) -> bool:
    assert words in finding.words
    assert finding.words.isprintable()
    return (finding.grade, finding.name, finding.until) == (Grade.NOTHING, "", None)


# Statements


def test_a_statement_names_its_signer_by_the_verifier_s_own_list(key: SshKey, trust: Trust) -> None:
    finding = examine(key.piece(), CONTEXT, trust)
    words = "SSH key in your list, for this program, for these parties, until 28 Feb 2027"
    assert finding == Finding(Grade.NAMES, "alice", words, STATEMENT.until)


def test_a_statement_for_anything_names_its_signer(key: SshKey, trust: Trust) -> None:
    finding = examine(key.piece(program=None, roster=None), CONTEXT, trust)
    assert (finding.grade, finding.words) == (Grade.NAMES, "SSH key in your list, until 28 Feb 2027")


def test_an_issuer_s_statement_vouches_and_names_nobody(key: SshKey) -> None:
    piece = key.piece(purpose=StatementPurpose.ISSUER)
    finding = examine(piece, CONTEXT, trusting(issuers=f"club {key.public}"))
    assert (finding.grade, finding.name, finding.until) == (Grade.VOUCHES, "club", STATEMENT.until)
    assert finding.words.startswith("club, your issuer, says it is a member, for this program")


def test_people_do_not_vouch_and_issuers_do_not_name(key: SshKey, trust: Trust) -> None:
    assert nothing(examine(key.piece(purpose=StatementPurpose.ISSUER), CONTEXT, trust), "does not have the key")
    issuing = trusting(issuers=f"club {key.public}")
    assert nothing(examine(key.piece(), CONTEXT, issuing), "does not have the key")


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"onion": OTHER}, f"another address, {ME}"),
        ({"program": bytes(32)}, "another program"),
        ({"roster": "other words of ten which are not of this roster"}, "other parties"),
        ({"now": STATEMENT.until + timedelta(minutes=1)}, "expired on 28 Feb 2027"),
        ({"now": STATEMENT.start - timedelta(minutes=1)}, "counts from 1 Dec 2026 on"),
    ],
)
def test_a_replayed_statement_proves_nothing(context: Mapping[str, Any], words: str, key: SshKey, trust: Trust) -> None:
    assert nothing(examine(key.piece(), replace(CONTEXT, **context), trust), words)


def test_a_signature_for_another_use_proves_nothing(key: SshKey, trust: Trust) -> None:
    text = format_statement(STATEMENT)
    for namespace in ("file", "git", "statement@onionmpc2"):
        finding = examine(text + key.sign(text, namespace), CONTEXT, trust)
        assert nothing(finding, f"for the namespace '{namespace}', expected 'statement@onionmpc'")


def test_a_signature_over_another_statement_proves_nothing(key: SshKey, trust: Trust) -> None:
    other = format_statement(replace(STATEMENT, onion=OTHER))
    assert nothing(examine(format_statement(STATEMENT) + key.sign(other), CONTEXT, trust), "another text")


def test_a_key_that_is_not_listed_proves_nothing(trust: Trust, tmp_path: Path) -> None:
    assert nothing(examine(make_ssh_key(tmp_path).piece(), CONTEXT, trust), "does not have the key that signed it")


def test_more_than_90_days_prove_nothing(key: SshKey, trust: Trust) -> None:
    text = format_statement(STATEMENT).replace("2027-02-28", "2027-03-02")
    assert nothing(examine(text + key.sign(text), CONTEXT, trust), "at most 90 days")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n",
        lambda text: text + "note hello\n",
        lambda text: "\n".join([*text.split("\n")[:5:-1], ""]),
        lambda text: text.replace("purpose party\nscope", "scope").replace("audience", "purpose party\naudience"),
        lambda text: text.replace("address ", "address  "),
        lambda text: text.replace(ME, ME.upper()),
        lambda text: text.replace("sha256:", "SHA256:"),
        lambda text: text.replace("statement 1", "statement 2"),
        lambda text: text.replace("T00:00Z", "T00:00:00Z"),
        lambda text: text.replace("2026-12-01T", "2026-12-1T"),
        lambda text: text.replace("address", "\u0430ddress"),
        lambda text: text[:-1],
        lambda text: "",
    ],
)
def test_a_statement_in_another_spelling_proves_nothing(change: Any, key: SshKey, trust: Trust) -> None:
    text = change(format_statement(STATEMENT))
    assert text != format_statement(STATEMENT)
    assert nothing(examine(text + key.sign(text), CONTEXT, trust), "")


def test_a_review_says_nothing_about_an_address(key: SshKey, trust: Trust) -> None:
    assert nothing(examine(key.piece(REVIEW), CONTEXT, trust), "review of a program")


def test_a_review_names_its_signer(key: SshKey, trust: Trust) -> None:
    finding = examine_review(key.piece(REVIEW), PROGRAM, trust, NOW)
    assert finding == Finding(Grade.NAMES, "alice", "reviewed this program, until 28 Feb 2027", REVIEW.until)


def test_a_review_of_another_program_or_time_or_no_review_proves_nothing(key: SshKey, trust: Trust) -> None:
    piece = key.piece(REVIEW)
    assert nothing(examine_review(piece, bytes(32), trust, NOW), "another program")
    assert nothing(examine_review(piece, PROGRAM, trust, NOW + timedelta(days=100)), "expired")
    assert nothing(examine_review(key.piece(), PROGRAM, trust, NOW), "no review of a program")
    assert nothing(examine_review("", PROGRAM, trust, NOW), "neither")


# Certificates


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.make()


def public(root: Authority, *domains: str, **companies: tuple[x509.Certificate, ...]) -> Trust:
    return Trust(domains=frozenset(domains), companies=companies, public_roots=(root.certificate,))


def test_a_certificate_names_the_listed_domain_beside_the_address(root: Authority) -> None:
    middle = Authority.make("R12", root)
    trust = public(root, "acme.example")
    for names in ((ME, "acme.example"), (sauteed(ME, "acme.example"), "acme.example")):
        certificate = middle.certify(*names)
        finding = examine(pem(certificate, middle.certificate), CONTEXT, trust)
        words = "certificate of R12, until 3 Jan 2027: controls acme.example"
        assert finding == Finding(Grade.NAMES, "acme.example", words, certificate.not_valid_after_utc)


def test_of_several_domains_each_needs_the_address(root: Authority) -> None:
    names = ("acme.example", "bank.example", sauteed(ME, "bank.example"), "club.example", sauteed(ME, "club.example"))
    piece = pem(root.certify(*names))
    assert examine(piece, CONTEXT, public(root, "club.example")).name == "club.example"
    assert nothing(examine(piece, CONTEXT, public(root, "acme.example")), "for bank.example, club.example, which")


def test_subdomains_are_one_name(root: Authority) -> None:
    trust = public(root, "acme.example", "shop.acme.example")
    for domain in ("acme.example", "www.acme.example", "deep.shop.acme.example"):
        finding = examine(pem(root.certify(sauteed(ME, domain), domain)), CONTEXT, trust)
        assert (finding.grade, finding.name) == (Grade.NAMES, "acme.example")
        assert finding.words.endswith(f"controls {domain}")
    assert nothing(examine(pem(root.certify(ME, "notacme.example")), CONTEXT, trust), "notacme.example")


def test_a_domain_that_is_not_listed_proves_nothing_and_is_shown(root: Authority) -> None:
    finding = examine(pem(root.certify(ME, "evil.example")), CONTEXT, public(root, "acme.example"))
    assert nothing(finding, "for evil.example, which you do not list: add a line")


def test_a_public_certificate_for_the_address_alone_proves_nothing(root: Authority) -> None:
    assert nothing(examine(pem(root.certify(ME)), CONTEXT, public(root, "acme.example")), "names no domain")


@pytest.mark.parametrize(
    "names",
    [
        ("*.acme.example", "acme.example"),
        ("*.onion", "acme.example"),
        (sauteed(ME, "acme.example"), "*.acme.example"),
        (sauteed(ME, "acme.example"),),
        (sauteed(ME, "www.acme.example"), "acme.example"),
        (sauteed(OTHER, "acme.example"), "acme.example"),
        (OTHER, "acme.example"),
        (f"www.{ME}", "acme.example"),
        (ME.removesuffix(".onion"), "acme.example"),
        (f"x{sauteed(ME, 'acme.example')}", "acme.example"),
        ("acme.example",),
        (),
    ],
)
def test_a_certificate_has_to_name_the_address_itself_and_its_domain(names: tuple[str, ...], root: Authority) -> None:
    finding = examine(pem(root.certify(*names)), CONTEXT, public(root, "acme.example", acme=(root.certificate,)))
    assert nothing(finding, "the certificate ")


def test_a_wildcard_beside_the_address_is_no_domain(root: Authority) -> None:
    assert nothing(examine(pem(root.certify(ME, "*.acme.example")), CONTEXT, public(root, "acme.example")), "no domain")


@pytest.mark.parametrize(
    "now", [datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)], ids=["early", "late"]
)
def test_a_certificate_counts_only_while_it_is_valid(now: datetime, root: Authority) -> None:
    piece = pem(root.certify(ME, "acme.example"))
    finding = examine(piece, replace(CONTEXT, now=now), public(root, "acme.example", acme=(root.certificate,)))
    assert nothing(finding, "valid from 2026-12-10 to 2027-01-03")


def test_a_chain_to_an_unknown_root_proves_nothing(root: Authority) -> None:
    other = Authority.make()  # of the same name
    middle = Authority.make("R12", other)
    certificate = middle.certify(ME, "acme.example")
    for piece in (pem(certificate, middle.certificate), pem(certificate, middle.certificate, other.certificate)):
        assert nothing(examine(piece, CONTEXT, public(root, "acme.example")), "no valid chain")
    assert nothing(examine(piece, CONTEXT, Trust(domains=frozenset({"acme.example"}))), "no valid chain")


def test_an_intermediate_that_is_missing_breaks_the_chain(root: Authority) -> None:
    middle = Authority.make("R12", root)
    assert nothing(examine(pem(middle.certify(ME, "acme.example")), CONTEXT, public(root, "acme.example")), "chain")


def test_an_ordinary_certificate_certifies_nobody(root: Authority) -> None:
    """The oldest hole in chains: the owner of any certificate would be an authority."""
    middle = Authority.make("R12", root)
    leaf = middle.certify("evil.example")
    # The same subject and another key, without the right of an authority.
    evil = Authority(leaf, Authority.make().key)
    piece = pem(evil.certify(ME, "acme.example"), leaf, middle.certificate)
    assert nothing(examine(piece, CONTEXT, public(root, "acme.example")), "no valid chain")


def test_an_authority_s_path_length_is_kept(root: Authority) -> None:
    short = Authority.make("short", root, path_length=0)
    assert examine(pem(short.certify(ME, "a.example"), short.certificate), CONTEXT, public(root, "a.example")).name
    below = Authority.make("below", short)
    piece = pem(below.certify(ME, "a.example"), below.certificate, short.certificate)
    assert nothing(examine(piece, CONTEXT, public(root, "a.example")), "no valid chain")


def test_an_authority_s_name_constraints_are_kept(root: Authority) -> None:
    only = x509.NameConstraints(permitted_subtrees=[x509.DNSName("acme.example")], excluded_subtrees=None)
    narrow = Authority.make("narrow", root, only)
    trust = public(root, "acme.example", "bank.example", pinned=(narrow.certificate,))
    own = narrow.certify(sauteed(ME, "www.acme.example"), "www.acme.example")
    assert examine(pem(own, narrow.certificate), CONTEXT, trust).name == "pinned"
    assert examine(pem(own, narrow.certificate), CONTEXT, replace(trust, companies={})).name == "acme.example"
    for names in ((sauteed(ME, "bank.example"), "bank.example"), (ME, "www.acme.example")):
        piece = pem(narrow.certify(*names), narrow.certificate)
        assert nothing(examine(piece, CONTEXT, trust), "no valid chain")


def test_a_pinned_authority_names_its_company_for_everyone(root: Authority) -> None:
    company = Authority.make("Acme Internal CA")
    trust = public(root, acme=(company.certificate,))
    finding = examine(pem(company.certify(ME)), CONTEXT, trust)
    assert (finding.grade, finding.name, finding.words) == (
        Grade.NAMES,
        "acme",
        "certificate of your CA acme, until 3 Jan 2027",
    )
    other = examine(pem(company.certify(OTHER, "bank.example")), replace(CONTEXT, onion=OTHER), trust)
    assert other.name == "acme"


def test_a_certificate_that_claims_an_authority_s_name_proves_nothing(root: Authority) -> None:
    company, liar = Authority.make("Acme"), Authority.make("Acme")
    assert nothing(examine(pem(liar.certify(ME)), CONTEXT, public(root, acme=(company.certificate,))), "no valid chain")


def test_the_public_roots_are_certifi_s() -> None:
    assert len(public_roots()) > 50


# Whatever else a peer sends


def test_16_kib_of_garbage_prove_nothing_soon(trust: Trust) -> None:
    begin = "-----BEGIN CERTIFICATE-----\n"
    pieces = [
        "x" * MAX_PIECE_BYTES,
        "onionmpc statement 1\n" * 780,
        (format_statement(STATEMENT) + BEGIN_SIGNATURE + "\n" + "QUJD\n" * 4000)[:MAX_PIECE_BYTES],
        begin * 570,
        (begin + "A" * MAX_PIECE_BYTES)[:MAX_PIECE_BYTES],
        (begin + "QUJD\n" * 4000)[: MAX_PIECE_BYTES - 26] + "-----END CERTIFICATE-----\n",
        "\n" * MAX_PIECE_BYTES,
        "-" * MAX_PIECE_BYTES,
    ]
    began = time.process_time()
    for piece in pieces:
        assert nothing(examine(piece, CONTEXT, trust), "")
    assert time.process_time() - began < 2.0


def test_a_hundred_certificates_are_not_even_parsed(root: Authority, trust: Trust) -> None:
    one = root.certify(ME)
    assert nothing(examine(pem(*[one] * 100), CONTEXT, trust), "there are 100 certificates, expected at most 6")


def test_authorities_that_certify_each_other_end_soon(root: Authority) -> None:
    """There are many paths among five of one name and one key, and none leads to a root."""
    first = Authority.make("A")
    loop = [Authority.make("A", first, key=first.key) for _ in range(5)]
    piece = pem(first.certify(ME, "a.example"), *(each.certificate for each in loop))
    began = time.process_time()
    trust = public(root, "a.example", **{f"c{number}": (root.certificate,) for number in range(MAX_COMPANIES)})
    assert nothing(examine(piece, CONTEXT, trust), "no valid chain")
    assert time.process_time() - began < 5.0


def test_two_threads_never_change_the_filters_of_warnings_at_once() -> None:
    """Else one of them puts back the other's: then a warning of a certificate is printed, or raised."""
    inside = threading.Event()

    def enter() -> None:
        with without_warnings():
            inside.set()

    with ThreadPoolExecutor(1) as pool:
        with without_warnings():
            entering = pool.submit(enter)
            assert not inside.wait(0.2)
        entering.result(10)
    assert inside.is_set()


def test_an_odd_certificate_prints_no_warning_and_raises_none(root: Authority) -> None:
    """Here warnings are errors, as some programs have them."""
    notice = x509.UserNotice(notice_reference=None, explicit_text="a b\u00fcro")
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), [notice])])
    content = root.certify(ME, "acme.example", extensions=[policies]).public_bytes(Encoding.DER)
    odd = content.replace(b"\x0c\x07a b", b"\x1a\x07a b")  # a VisibleString, which is ASCII
    assert odd != content
    piece = f"{BEGIN_CERTIFICATE}\n{base64.encodebytes(odd).decode()}{END_CERTIFICATE}\n"
    assert nothing(examine(piece, CONTEXT, public(root, "acme.example")), "no valid chain")


@given(st.text(alphabet=st.characters(max_codepoint=126), max_size=300))
def test_no_text_raises_or_proves_anything(text: str) -> None:
    for start in ("", "-----BEGIN CERTIFICATE-----\n", "onionmpc statement 1\n", format_statement(STATEMENT)):
        assert nothing(examine(start + text, CONTEXT, Trust()), "")

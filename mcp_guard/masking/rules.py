"""Data of the engine: token prefixes, key names, stop words. Formats are public facts of their issuers."""

from __future__ import annotations

SECRET = "SECRET"  # noqa: S105 - the name of a type, no secret
PRIVATE_KEY = "PRIVATE_KEY"
SECRET_TYPES = frozenset({SECRET, PRIVATE_KEY})
TYPES = (
    SECRET,
    PRIVATE_KEY,
    "EMAIL",
    "CREDIT_CARD",
    "US_SSN",
    "IBAN",
    "PHONE",
    "IP",
    "PERSON",
    "ADDRESS",
    "DOB",
    "PII",
)

_TOKENS = """
aws AKIA 16; aws ASIA 16; aws ABIA 16; aws ACCA 16; bedrock ABSK 60; bedrock bedrock-api-key- 16
github ghp_ 30; github gho_ 30; github ghu_ 30; github ghs_ 30; github ghr_ 30; github github_pat_ 30
gitlab glpat- 20; gitlab gldt- 16; gitlab glrt- 16; gitlab glptt- 16; gitlab glsoat- 16; gitlab glcbt- 16
gitlab glffct- 16; gitlab glft- 16; gitlab glimt- 16; gitlab glagent- 16; gitlab gloas- 16; gitlab GR1348941 16
slack xoxa- 10; slack xoxb- 10; slack xoxe- 10; slack xoxo- 10; slack xoxp- 10; slack xoxr- 10; slack xoxs- 10
slack xoxe.xox 10; slack xapp- 10; stripe sk_live_ 10; stripe sk_test_ 10; stripe sk_prod_ 10
stripe rk_live_ 10; stripe rk_test_ 10; stripe rk_prod_ 10; stripe whsec_ 20
google AIza 30; google ya29. 20; google GOCSPX- 20; anthropic sk-ant- 20; openai sk-proj- 20; openai sk-svcacct- 20
openai sk-admin- 20; openai sk- 32; npm npm_ 30; pypi pypi-AgE 16; huggingface hf_ 30; huggingface api_org_ 30
digitalocean dop_v1_ 32; digitalocean doo_v1_ 32; digitalocean dor_v1_ 32; sendgrid SG. 40
shopify shpat_ 30; shopify shpca_ 30; shopify shppa_ 30; shopify shpss_ 30; square sq0atp- 16; square sq0csp- 16
square EAAA 40; databricks dapi 30; vault hvs. 20; vault hvb. 20; newrelic NRAK- 20; newrelic NRII- 20
newrelic NRJS- 16; postman PMAK- 40; linear lin_api_ 30; linear lin_oauth_ 40; notion ntn_ 30; grafana glsa_ 30
grafana glc_ 30; pulumi pul- 38; age AGE-SECRET-KEY-1 40; docker dckr_pat_ 20; docker dckr_oat_ 20
atlassian ATATT3 40; atlassian ATCTT3 40; figma figd_ 30; sentry sntrys_ 40; sentry sntryu_ 40; rubygems rubygems_ 40
alibaba LTAI 17; mailgun key- 32; mailgun pubkey- 32; twilio SK 32; fly fm1a_ 60; fly fm1r_ 60; fly fm2_ 60; fly fo1_ 40
planetscale pscale_tkn_ 30; planetscale pscale_pw_ 30; planetscale pscale_oauth_ 30; supabase sbp_ 40
doppler dp.pt. 38; doppler dp.st. 38; doppler dp.ct. 38; dynatrace dt0c01. 60; groq gsk_ 40; xai xai- 60
replicate r8_ 35; perplexity pplx- 40; readme rdme_ 60; sendinblue xkeysib- 60; shippo shippo_live_ 38
shippo shippo_test_ 38; artifactory AKCp 60; artifactory cmVmd 50; clojars CLOJARS_ 50; duffel duffel_live_ 40
duffel duffel_test_ 40; easypost EZAK 50; easypost EZTK 50; flutterwave FLWSECK_TEST- 12; flutterwave FLWPUBK_TEST- 12
frameio fio-u- 50; infracost ico- 30; octopus API- 26; openshift sha256~ 40; prefect pnu_ 30; settlemint sm_aat_ 16
settlemint sm_pat_ 16; settlemint sm_sat_ 16; sourcegraph sgp_ 38; onepassword ops_eyJ 50; onepassword A3- 32
adobe p8e- 30; cloudflare v1.0- 100; clickhouse 4b1d 38; heroku HRKU-AA 40; harness pat. 55; harness sat. 55
facebook EAAM 60; facebook EAAC 60; typeform tfp_ 50; mapbox pk. 70; mapbox sk. 70; scalingo tk-us- 40
authress authress_ 40; authress sc_ 60; defined dnkey- 50; dropbox sl. 100; yandex t1. 60; yandex AQVN 34; yandex YCC 35
gocardless live_ 38; lob test_pub_ 30; lob live_pub_ 30; plaid access-sandbox- 36; plaid access-development- 36
plaid access-production- 36; jwt eyJ 36; intra42 s-s4t2ud- 60; intra42 s-s4t2af- 60; microsoft EwA 200
buildkite bkua_ 40; gitlab _gitlab_session= 30; vercel vcp_ 24; airtable pat 78; telegram bot 40
"""

TOKEN_RULES: dict[str, tuple[str, int]] = {
    prefix: (f"token:{name}", int(least))
    for name, prefix, least in (rule.split() for rule in _TOKENS.replace("\n", ";").split(";") if rule.strip())
}
"""Prefix -> (rule id, least number of characters that follow)."""

WITHOUT_DIGITS = ("hf_", "api_org_", "AKIA", "ASIA")
"""Prefixes of tokens that may hold no digit; words hold none either, so all others must."""

STRICT_BODY = {
    "SK": r"[0-9a-fA-F]{32}(?![\w-])",
    "key-": r"[0-9a-f]{32}(?![\w-])",
    "pubkey-": r"[0-9a-f]{32}(?![\w-])",
    "dapi": r"[0-9a-f]{32}(?:-\d)?(?![\w-])",
    "AKIA": r"[A-Z0-9]{16}(?![\w-])",
    "ASIA": r"[A-Z0-9]{16}(?![\w-])",
    "ABIA": r"[A-Z0-9]{16}(?![\w-])",
    "ACCA": r"[A-Z0-9]{16}(?![\w-])",
    "AIza": r"[\w-]{35}(?![\w-])",
    "API-": r"[A-Z0-9]{26}(?![\w-])",
    "4b1d": r"[A-Za-z0-9]{38}(?![\w-])",
    "A3-": r"[A-Z0-9]{6}-[A-Z0-9-]{22,32}(?![\w-])",
    "LTAI": r"[A-Za-z0-9]{17,26}(?![\w-])",
    "pul-": r"[0-9a-f]{40}(?![\w-])",
    "YCC": r"[A-Za-z0-9_-]{37}(?![\w-])",
    "AQVN": r"[A-Za-z0-9_-]{35,38}(?![\w-])",
    "live_": r"[A-Za-z0-9_=-]{35,45}(?![\w-])",
    "EZAK": r"[A-Za-z0-9]{54}(?![\w-])",
    "EZTK": r"[A-Za-z0-9]{54}(?![\w-])",
    "pat": r"[A-Za-z0-9]{14}\.[0-9a-f]{64}(?![\w-])",
    "bot": r"\d{8,11}:[\w-]{33,36}(?![\w-])",
    "t1.": r"[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]{80,}={0,2}",
    "pk.": r"[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}(?![\w-])",
    "sk.": r"[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}(?![\w-])",
    "sk-": r"[A-Za-z0-9]{32,}(?:T3BlbkFJ[\w-]{20,})?(?![\w-])",
    "eyJ": r"[\w-]{8,}={0,2}(?:\.[\w-]{8,}={0,2}){1,4}|[A-Za-z0-9+/]{60,}={0,2}",
}
"""Where prefix and length alone would match other things, the exact body."""

DIRECT = (
    ("slack_webhook", "hooks.slack.com/", r"(?:services|workflows|triggers)/[A-Za-z0-9+/]{24,80}"),
    ("azure_storage", "AccountKey=", r"[A-Za-z0-9+/]{40,88}={0,2}"),
    ("azure_bus", "SharedAccessKey=", r"[A-Za-z0-9+/]{40,88}={0,2}"),
    ("azure_sas", "sig=", r"[A-Za-z0-9%+/]{43,80}(?:%3D|=)"),
    ("discord_webhook", "/api/webhooks/", r"\d{17,20}/[\w-]{60,72}"),
    ("teams_webhook", "webhook.office.com/", r"webhookb?2?/[\w@./-]{60,250}"),
    ("terraform", ".atlasv1.", r"[\w=-]{60,70}"),
)
"""(rule id, literal that stands before the secret, the secret)."""

ANCHORED = (
    ("azure_ad", r"(?<![\w~.-])[\w~.-]{3}\d", "Q~", r"[\w~.-]{31,34}(?![\w~.-])", 5),
    ("mailchimp", r"(?<![\w-])[0-9a-f]{32}", "-us", r"\d{1,2}(?![\w-])", 33),
    ("telegram", r"(?<!\d)\d{5,16}", ":A", r"[\w-]{34}(?![\w-])", 17),
    ("maxmind", r"(?<!\w)[A-Za-z0-9]{6}_[A-Za-z0-9]{29}", "_mmk", r"(?!\w)", 37),
    ("facebook", r"(?<!\d)\d{15,16}", "|", r"[\w-]{27,40}(?![\w-])", 17),
)
"""(rule id, what stands before the literal, the literal, what stands after it, how far before it begins at most)."""

KEYWORDS = ("passw", "pwd", "passphrase", "secret", "token", "key", "credential", "auth", "cookie", "session", "_pass")
"""Lower-case parts of names of secrets; the name around a hit decides (`keys.hint`)."""

_IDENTIFIED = (
    r"identified[ \t]{1,4}(?:with[ \t]{1,4}\w{1,64}[ \t]{1,4})?(?:by|as)[ \t]{1,4}"
    r"(?:(?P<q>['\"])(?=[^'\"`\n\x1f]{1,256}(?P=q)))?(?P<v>(?(q)[^'\"\n\x1f]{1,256}|[A-Za-z_]{1,128}+\w*\d\w*))"
)
COMMANDS = (
    ("securestring", r"securestring[ \t]{1,4}(?:-string[ \t]{1,4})?(?P<q>['\"])(?P<v>[^'\"\n\x1f]{1,256})(?P=q)"),
    ("-pass", r"-pass(?:in|out)?[ \t]{1,4}pass:(?P<v>[^\s'\"\x1f]{1,256})"),
    ("--user", r"--user(?:[ \t]{1,4}|=)['\"]?[\w.@\\\-]{1,64}:(?!//)(?P<v>[^\s'\"\x1f]{1,256})"),
    ("-u ", r"-u[ \t]{1,4}['\"]?[\w.@\\\-]{1,64}:(?!//)(?P<v>[^\s'\"\x1f:]{1,256})(?!:)"),
    ("identified", _IDENTIFIED),
)
"""(literal, command line or statement that begins with it): `v` is the secret that it takes."""

STOP_VALUES = frozenset(
    [
        "password",
        "passwd",
        "pass",
        "secret",
        "token",
        "tokens",
        "string",
        "str",
        "text",
        "bytes",
        "number",
        "int",
        "integer",
        "bool",
        "boolean",
        "true",
        "false",
        "null",
        "none",
        "nil",
        "undefined",
        "any",
        "optional",
        "required",
        "object",
        "array",
        "hidden",
        "include",
        "same-origin",
        "omit",
        "basic",
        "bearer",
        "digest",
        "default",
        "empty",
        "all",
        "yes",
        "no",
        "on",
        "off",
        "varchar",
        "char",
        "self",
        "this",
        "user",
        "username",
        "value",
        "type",
        "name",
        "key",
        "id",
        "enabled",
        "disabled",
        "changeme",
        "redacted",
        "masked",
        "masked:error",
        "unknown",
        "oauth",
        "oauth2",
        "jwt",
        "ssh",
        "env",
        "bar",
        "foo",
        "xxx",
        "n/a",
        "na",
        "public",
        "private",
        "function",
        "sensitive",
        "never",
        "always",
        "auto",
        "login",
    ]
)
"""Values that stand where a secret could and are none."""

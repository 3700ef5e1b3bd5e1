#!/usr/bin/env bash
# Looks for weaknesses: in the code (bandit), for secrets in the files (detect-secrets), and in the packages of
# uv.lock (pip-audit). Each finding that is let pass has its reason: here, in pyproject.toml, or on its line.
# Usage: tools/audit.sh DIRECTORY-OF-THE-PROGRAMS
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$1

"$programs/bandit" --quiet --configfile pyproject.toml --recursive foundation clientauth rtc callclient jobs sfu offloader testbed tools 2> >(grep -v "nosec encountered" >&2)

allowed=(
    --no-verify  # nobody is asked whether a secret works
    # A password of up to 15 characters in an address is an example of a page or a test; no generator makes one so short.
    --exclude-secrets '^.{1,15}$'
    # What a support bundle leaves out is tested with one of each kind, all made up.
    --exclude-files '^tests/offloader/(test_support_bundle_redaction|cli/test_support_bundle)\.py$'
)
# Entropy and keywords are no proof: they find every hash and every setting's name. The rest are of services that nothing
# here speaks to, and each of them costs a second.
unused=(KeywordDetector Base64HighEntropyString HexHighEntropyString ArtifactoryDetector CloudantDetector DiscordBotTokenDetector
    IbmCloudIamDetector IbmCosHmacDetector IPPublicDetector MailchimpDetector SendGridDetector SoftlayerDetector SquareOAuthDetector
    StripeDetector TelegramBotTokenDetector TwilioKeyDetector)
# Every file that is or would be committed, but for those that nobody writes by hand.
git ls-files -z --cached --others --exclude-standard -- ':!*.lock' ':!*.png' ':!*.bin' ':!*.ttf' ':!*.min.js' |
    xargs -0 -n 500 -P 2 "$programs/detect-secrets-hook" "${allowed[@]}" "${unused[@]/#/--disable-plugin=}"

.uv/bin/uv export --quiet --frozen --all-extras --no-dev --no-emit-project --output-file "$programs/../locked.txt" >/dev/null
"$programs/python" tools/known_holes.py "$programs/pip-audit" "$programs/../locked.txt"

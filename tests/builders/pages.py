"""What a report's page holds."""

import base64
import gzip
import json
import re
from typing import Any

EVIL = "</script><script>document.title = 'broken'</script>"


def data_of(page: str) -> dict[str, Any]:
    packed = re.search(r'<script type="text/plain" id="packed-data">([^<]*)</script>', page)
    assert packed
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))

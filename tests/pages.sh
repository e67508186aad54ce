#!/usr/bin/env bash
# The manual pages are clean, refer to pages that exist, and explain every function of liblarder as larder.h declares it: a page has it in NAME and SYNOPSIS, with the
# same arguments, shows its structs with the same fields, and names every result that the header's comment names, which is there. Every constant of the header is on some page.
set -u
cd "${LARDER_SRC:-$(dirname "$0")/..}" || exit 1
command -v mandoc >/dev/null || { echo "no mandoc here"; exit 77; }
command -v python3 >/dev/null || { echo "no python3 here"; exit 77; }

bad=0
say() {
    echo "$1"
    bad=1
}

shopt -s nullglob
pages=(man/*.[1-8])
[ "${#pages[@]}" -gt 0 ] || { echo "no pages"; exit 1; }
mandoc -T lint -W warning "${pages[@]}" || say "mandoc has something to say"

python3 - "${pages[@]}" <<'END' || bad=1
import re
import sys

bad = 0


def say(text):
    global bad
    bad = 1
    print(text)


def words(text):
    return re.sub(r"\s+", " ", text).strip()


class Page:
    def __init__(self, path):
        self.path = path
        self.text = open(path).read()
        self.section = path[-1]
        self.names, self.functions, self.referred = [], {}, []
        part, function = "", None
        for line in self.text.splitlines():
            macro = line.split()
            if line.startswith(".Sh "):
                part = line[4:]
            elif line.startswith(".Nm ") and part == "NAME":
                self.names.append(macro[1])
            elif line.startswith(".Xr "):
                self.referred.append((macro[1], macro[2]))
            elif part == "SYNOPSIS" and line.startswith(".Fo "):
                function = self.functions.setdefault(macro[1], [])
            elif part == "SYNOPSIS" and line.startswith(".Fa ") and function is not None:
                function.append(line[4:].strip('"'))
            elif part == "SYNOPSIS" and line.startswith(".Fc"):
                function = None
            elif part == "SYNOPSIS" and line.startswith(".Fn "):
                self.functions[macro[1]] = re.findall(r'"([^"]*)"', line)
        self.structs = {
            name: words(body) for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", self.text.split(".Sh EXAMPLES")[0], re.S | re.M)
        }


pages = [Page(path) for path in sys.argv[1:]]
page_of = {}
for page in pages:
    for name in page.names:
        if (name, page.section) in page_of:
            say(f"{page.path} and {page_of[name, page.section].path} are both called {name}")
        page_of[name, page.section] = page
for page in pages:
    for name, section in page.referred:
        if name.startswith("larder") and (name, section) not in page_of:
            say(f"{page.path} refers to {name}({section}), which does not exist")

header = open("libclient/larder.h").read()
plain = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
listed = re.search(r"global:(.*?)local:", open("libclient/liblarder.map").read(), re.S).group(1)
exported = re.findall(r"\b(larder_\w+);", re.sub(r"/\*.*?\*/", "", listed, flags=re.S))

declared = {}
for name, arguments in re.findall(r"^[a-z][\w \*]*?\b(larder_\w+)\(([^;{]*)\);", plain, re.M | re.S):
    declared[name] = [a for a in (words(a) for a in arguments.split(",")) if a != "void"]

# A comment is that of the prototypes that follow it without an empty line.
comments = {}
for comment, block in re.findall(r"^/\*((?:(?!\*/).)*)\*/\n((?:(?!/\*)[^\n]+\n)+)", header, re.S | re.M):
    for name in re.findall(r"^[a-z][\w \*]*?\b(larder_\w+)\(", block, re.M):
        comments[name] = comment

for name in exported:
    if name not in comments:
        say(f"larder.h says nothing about {name}")
    page = page_of.get((name, "3"))
    if page is None:
        say(f"{name} is in the NAME of no page of section 3")
        continue
    if name not in page.functions:
        say(f"{page.path}: {name} is not in the SYNOPSIS")
        continue
    shown = [a for a in page.functions[name] if a != "void"]
    wanted = declared.get(name, [])
    # the header leaves out the names of handles
    if len(shown) != len(wanted) or not all(s.startswith(w) for s, w in zip(shown, wanted)):
        say(f"{page.path}: {name}({', '.join(shown)}), in larder.h {name}({', '.join(wanted)})")
    for result in sorted(set(re.findall(r"\bLARDER_[A-Z_0-9]*[A-Z0-9]\b|(?<![\w-])-E[A-Z]{3,}\b", comments.get(name, "")))):
        bare = result.lstrip("-")
        if not re.search(rf"(?<![A-Z_]){bare}(?![A-Z_])", page.text):
            say(f"{page.path}: {name} may have to do with {result}, says larder.h; the page does not")

structs = {name: words(body) for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", plain, re.S | re.M)}
shown = {}
for page in pages:
    for name, body in page.structs.items():
        if not name.startswith("larder"):
            continue
        shown[name] = True
        if name not in structs:
            say(f"{page.path} shows struct {name}, which larder.h does not have")
        elif structs[name] != body:
            say(f"{page.path}: struct {name} is {{ {body} }}, in larder.h {{ {structs[name]} }}")
for name in structs:
    if name not in shown:
        say(f"struct {name} is shown on no page")

section3 = "\n".join(page.text for page in pages if page.section == "3")
for constant in sorted(set(re.findall(r"\bLARDER_[A-Z0-9_]*[A-Z0-9]\b", plain)) - {"LARDER_H"}):
    if not re.search(rf"\b{constant}\b", section3):
        say(f"{constant} is on no page of section 3")

for page in pages:
    if page.functions and ".Ss Cost\n" not in page.text:
        say(f"{page.path} does not say what it costs")

features = re.search(r"features\[\] = \{(.*?)\};", open("libclient/error.c").read(), re.S)
for feature in re.findall(r'"(\w+)"', features.group(1)) if features else []:
    if not re.search(rf"^\.Li {feature}\b", page_of["larder_has", "3"].text, re.M):
        say(f"{page_of['larder_has', '3'].path} does not have the feature {feature}")

print(f"{len(pages)} pages, {len(exported)} functions, {len(structs)} structs")
sys.exit(bad)
END
exit "$bad"

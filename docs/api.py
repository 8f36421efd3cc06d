"""Writes api.md: the API as its .proto files tell it, with a grpcurl call for each RPC.

    api.py PROTOSET EXAMPLES

PROTOSET is a descriptor set with comments (--include_source_info), EXAMPLES maps RPCs to the requests
shown; a list of them is a stream. An RPC without an example is an error.
"""

import json
import re
import sys

from google.protobuf import descriptor_pb2

Field = descriptor_pb2.FieldDescriptorProto
PACKAGE = "sandbox.v1"
ADDRESS = "localhost:50051"


class Comments:
    """What stands above each declaration, by its path in the file."""

    def __init__(self, file):
        self._by_path = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}

    def at(self, *path):
        return re.sub(r"\n ", "\n", self._by_path.get(path, "")).strip()


class Message:
    """A message or enum with the path to its comments; nested ones are `Outer.Inner`."""

    def __init__(self, file_comments, path, name, proto):
        self.comments, self.path, self.name, self.proto = file_comments, path, name, proto

    @property
    def comment(self):
        return self.comments.at(*self.path)

    @property
    def is_enum(self):
        return isinstance(self.proto, descriptor_pb2.EnumDescriptorProto)

    def nested(self):
        for i, inner in enumerate(getattr(self.proto, "nested_type", ())):
            if not inner.options.map_entry:
                made = Message(self.comments, self.path + (3, i), self.name + "." + inner.name, inner)
                yield made
                yield from made.nested()
        for i, inner in enumerate(getattr(self.proto, "enum_type", ())):
            yield Message(self.comments, self.path + (4, i), self.name + "." + inner.name, inner)


def messages(files):
    found = {}
    for file in files:
        comments = Comments(file)
        top = [Message(comments, (4, i), m.name, m) for i, m in enumerate(file.message_type)]
        top += [Message(comments, (5, i), e.name, e) for i, e in enumerate(file.enum_type)]
        for message in top:
            found[message.name] = message
            found.update((inner.name, inner) for inner in message.nested())
    return found


# --- words ---

def anchor(name):
    return name.lower().replace(".", "")


def link(name):
    return "[%s](#%s)" % (name, anchor(name))


def one_line(text):
    return text.replace("\n", " ").replace("|", "\\|")


SCALARS = {getattr(Field, "TYPE_" + n.upper()): n for n in (
    "double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")}


def type_of(message, field):
    if field.type in SCALARS:
        name = SCALARS[field.type]
    else:
        full = field.type_name.lstrip(".")
        entry = full.rsplit(".", 1)[1]
        inner = [n for n in getattr(message.proto, "nested_type", ()) if n.name == entry]
        if inner and inner[0].options.map_entry:
            return "map<%s, %s>" % tuple(type_of(message, f) for f in inner[0].field)
        if full.startswith(PACKAGE + "."):
            name = link(full[len(PACKAGE) + 1:])
        else:
            name = entry  # google.protobuf.Duration and Timestamp
    return "repeated " + name if field.label == Field.LABEL_REPEATED else name


def fields(message):
    if not message.proto.field:
        yield "No fields."
        return
    yield "| field | type | |"
    yield "|---|---|---|"
    for i, field in enumerate(message.proto.field):
        type_name = type_of(message, field)
        if field.HasField("oneof_index"):
            group = message.proto.oneof_decl[field.oneof_index].name
            type_name += " (in `%s`)" % group
        yield "| `%s` | %s | %s |" % (
            field.name, type_name, one_line(message.comments.at(*message.path, 2, i)))


def values(message):
    yield "| value | |"
    yield "|---|---|"
    for i, value in enumerate(message.proto.value):
        yield "| `%s` | %s |" % (value.name, one_line(message.comments.at(*message.path, 2, i)))


def describe(message, level):
    yield ""
    yield "%s %s" % ("#" * level, message.name)
    yield ""
    yield message.comment
    yield ""
    yield from values(message) if message.is_enum else fields(message)


# --- RPCs ---

def kind_of(method):
    return {(False, False): "unary", (False, True): "server stream", (True, False): "client stream",
            (True, True): "bidirectional stream"}[method.client_streaming, method.server_streaming]


def example(method, requests):
    yield ""
    yield "```sh"
    yield "grpcurl -plaintext -d @ %s %s.SandboxService/%s <<EOF" % (ADDRESS, PACKAGE, method.name)
    for request in requests if isinstance(requests, list) else [requests]:
        yield json.dumps(request, ensure_ascii=False)
    yield "EOF"
    yield "```"


def method_page(method, comment, found, examples):
    yield ""
    yield "### %s" % method.name
    yield ""
    yield "_%s._ %s" % (kind_of(method).capitalize(), comment)
    for title, type_name in ("Request", method.input_type), ("Response", method.output_type):
        message = found[type_name.rsplit(".", 1)[1]]
        yield ""
        yield "**%s** (`%s`)%s" % (title, message.name, extra(title, message))
        yield ""
        yield from fields(message)
    yield from example(method, examples[method.name])


def extra(title, message):
    """What the message's comment says beside "Request of X."."""
    text = re.sub(r"^%s of \w+\.\s*" % title, "", message.comment)
    return ": " + one_line(text) if text else ""


def page(service, comments, found, examples):
    methods = [(m, comments.at(6, 0, 2, i)) for i, m in enumerate(service.method)]
    shown = {t.rsplit(".", 1)[1] for m, _ in methods for t in (m.input_type, m.output_type)}
    yield "# The API"
    yield ""
    yield "`./dev docs` writes this page from `proto/sandbox/v1` and `docs/api_examples.json`."
    yield ""
    yield comments.at(6, 0)
    yield ""
    yield "In the examples, `$SANDBOX` and `$SNAPSHOT` stand for the ids that `CreateSandbox` and"
    yield "`CreateSnapshot` answered with; `cat`, `server` and `shell` are commands that run: with `stdin`,"
    yield "in the background, and with a `pty`. grpcurl finds everything else by reflection."
    yield ""
    yield "| RPC | |"
    yield "|---|---|"
    for method, comment in methods:
        yield "| %s | %s |" % (link(method.name), one_line(comment).split(". ")[0].rstrip(".") + ".")
    yield ""
    yield "## RPCs"
    for method, comment in methods:
        yield from method_page(method, comment, found, examples)
    yield ""
    yield "## Messages"
    for name in sorted(found):
        if name not in shown and name != "ErrorReason":
            yield from describe(found[name], 3)
    yield from describe(found["ErrorReason"], 2)


def main():
    with open(sys.argv[1], "rb") as f:
        files = descriptor_pb2.FileDescriptorSet.FromString(f.read()).file
    with open(sys.argv[2], encoding="utf-8") as f:
        examples = json.load(f)
    (home,) = (f for f in files if f.service)
    service = home.service[0]
    names = {m.name for m in service.method}
    if names != set(examples):
        sys.exit("docs/api_examples.json: missing %s, unknown %s" % (
            sorted(names - set(examples)), sorted(set(examples) - names)))
    print("\n".join(page(service, Comments(home), messages(files), examples)))


if __name__ == "__main__":
    main()

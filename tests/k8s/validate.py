"""Checks manifests against schemas, and says what is wrong with which, a line each.

Run by a Python that has kubernetes-validate:

    validate.py own VERSION[,VERSION…] FILE...   Kubernetes' own kinds, for each version, as the API
                                                 server does with strict field validation
    validate.py custom CRDS FILE...              the others, by the definition of their kind in the
                                                 folder CRDS; there, too, a field must be known
"""

import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml


# The one in C where it is there: definitions are long.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(path):
    text = Path(path).read_text(encoding="utf-8")
    return [d for d in yaml.load_all(text, Loader=LOADER) if d]


def strict(schema):
    """A definition's schema as JSON Schema, in which a field must be known."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: strict(v) for k, v in schema.items() if not k.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and \
            "additionalProperties" not in schema and \
            not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def custom(folder):
    """(apiVersion, kind) -> schema."""
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        for crd in documents(path):
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema.setdefault("properties", {}).update(
                    apiVersion={"type": "string"}, kind={"type": "string"},
                    metadata={"type": "object"})
                found["%s/%s" % (spec["group"], version["name"]), spec["names"]["kind"]] = schema
    return found


def is_custom(document):
    """Kubernetes' own groups have no dot, or are below k8s.io."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." in group and (not group.endswith(".k8s.io") or group.startswith("gateway."))


def own_complaints(document, versions):
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield "%s: %s: %s" % (version, "/".join(map(str, error.path)), error.message[:300])
        except kubernetes_validate.SchemaNotFoundError as error:
            yield "%s: %s" % (version, error.message)


def custom_complaints(document, schemas):
    schema = schemas.get((document["apiVersion"], document["kind"]))
    if schema is None:
        yield "no definition of %s" % document["apiVersion"]
        return
    for error in jsonschema.Draft7Validator(schema).iter_errors(document):
        yield "%s: %s" % ("/".join(map(str, error.absolute_path)), error.message[:300])


def main(what, against, *files):
    bad, by_definition = 0, what == "custom"
    judge, against = (custom_complaints, custom(against)) if by_definition else \
        (own_complaints, against.split(","))
    for path in files:
        for document in (d for d in documents(path) if is_custom(d) == by_definition):
            for complaint in judge(document, against):
                bad += 1
                print("%s: %s %s: %s" % (path, document["kind"], document["metadata"]["name"],
                                         complaint))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

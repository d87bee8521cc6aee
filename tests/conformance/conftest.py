"""The tests of one layer one after the other, whatever they test: each program is then compiled once."""

from _layer_cases import ALL

TABLES = ("test_layers_columns", "test_layers_conformance")


def pytest_collection_modifyitems(items):
    order = {case: i for i, case in enumerate(ALL)}
    places = [i for i, item in enumerate(items) if getattr(item, "module", None) and item.module.__name__ in TABLES]
    tests = [items[i] for i in places]
    tests.sort(key=lambda item: order.get(getattr(item, "callspec", None) and item.callspec.params.get("case"), -1))
    for place, test in zip(places, tests, strict=True):
        items[place] = test

"""Bad inputs, settings, model folders and places, and what is to become of each."""

from bad_input_cases.case import Case


def all_cases() -> list[Case]:
    """In the order of the table's groups."""
    from bad_input_cases import (
        adapters,
        data_files,
        data_layouts,
        data_places,
        data_rows,
        flag_values,
        models,
        outputs,
        prepared,
        readers,
        recipes,
        saved_states,
        scores,
    )

    data = (data_files, data_rows, data_layouts, data_places)
    modules = (*data, scores, models, adapters, recipes, flag_values, outputs, prepared, readers, saved_states)
    made = [case for module in modules for case in module.cases()]
    twice = {case.title for case in made if [one.title for one in made].count(case.title) > 1}
    assert not twice, f"two cases have one name: {sorted(twice)}"
    return made

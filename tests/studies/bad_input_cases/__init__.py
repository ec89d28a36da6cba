"""Bad inputs, settings, model folders and places, and what is to become of each."""

from collections import Counter

from bad_input_cases.case import Case


def all_cases() -> list[Case]:
    """In the order of the table's groups."""
    from bad_input_cases import (
        adapters,
        data_files,
        data_folders,
        data_layouts,
        data_places,
        data_rows,
        data_tables,
        flag_values,
        former_runs,
        model_configs,
        model_folders,
        model_weights,
        outputs,
        prepared,
        readers,
        recipes,
        saved_states,
        scores,
    )

    data = (data_files, data_tables, data_rows, data_layouts, data_folders, data_places)
    models = (model_configs, model_weights, model_folders, adapters)
    others = (recipes, flag_values, outputs, former_runs, prepared, readers, saved_states)
    made = [case for module in (*data, scores, *models, *others) for case in module.cases()]
    twice = [title for title, count in Counter(case.title for case in made).items() if count > 1]
    assert not twice, f"two cases have one name: {twice}"
    return made

"""DomainBed's selection rules. See :mod:`domainbed_carft.contract.selection`."""

from domainbed_carft.contract.selection import (
    IIDAccuracySelectionMethod,
    LeaveOneOutSelectionMethod,
    OracleSelectionMethod,
    SelectionMethod,
    get_test_records,
)

__all__ = [
    "IIDAccuracySelectionMethod",
    "LeaveOneOutSelectionMethod",
    "OracleSelectionMethod",
    "SelectionMethod",
    "get_test_records",
]

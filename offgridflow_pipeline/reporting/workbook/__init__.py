"""The report as a workbook (XLSX): every fact once under a name, and the report's tables as references to them.

Spreadsheet writing and reading back only; figures come rounded from `report_facts`, tables from `reporting.tables`.
"""

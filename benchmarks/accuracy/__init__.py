"""Measure how well models tell voices apart, and write the pages that show it.

compare_systems ─> systems ─> systems_page ─┐
sayso-evaluate ─────────────────────────────┴─> model_card ─> models/README.md
calibration_trials ─> sayso-export calibrate, sayso-evaluate promises
early_decisions ─> calls ─> encounters ─> sequential ─> docs/integrate/decisions.md
objectives, encoders, published_models, protected_templates, enrollment_checks ─> pages of docs/
"""

"""python scripts/export.py --model_name_or_path runs/squad_v2 --output_dir runs/squad_v2_onnx"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("export")

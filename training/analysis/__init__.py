"""What a trained encoder does to clips, to be seen and heard.

embedding ─> gallery   where it puts speakers it never heard
          └> probe     what else its embeddings tell apart: words, corpora, channels
hearing ─> audition    what augmentation does to a clip, written to a folder
"""

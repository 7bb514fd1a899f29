define internal i32 @pk_golden_0_body(ptr %env, ptr %symbols, ptr %scratch, i64 %begin, i64 %end, ptr %buf0, ptr %buf1) noinline #0 {
entry:
  br label %range1
range1:
  %v1 = phi i64 [ %begin, %entry ], [ %v32, %done5 ]
  %v2 = icmp slt i64 %v1, %end
  br i1 %v2, label %part2, label %end3
part2:
  %v3 = sub i64 %end, %v1
  %v4 = add i64 %v1, %v3
  %v5 = call i64 @llvm.smin.i64(i64 3, i64 %v4)
  %v6 = call i64 @llvm.smin.i64(i64 %v5, i64 3)
  %v7 = icmp slt i64 %v1, %v6
  br i1 %v7, label %loop4, label %done5
loop4:
  %v8 = phi i64 [ %v1, %part2 ], [ %v29, %loop4 ]
  %v9 = mul i64 %v8, 21
  %v10 = getelementptr float, ptr %buf0, i64 %v9
  %v11 = load <8 x float>, ptr %v10, align 4
  %v12 = fcmp ogt <8 x float> splat (float 0x0000000000000000), %v11
  %v13 = select <8 x i1> %v12, <8 x float> splat (float 0x0000000000000000), <8 x float> %v11
  %v14 = getelementptr float, ptr %buf1, i64 %v9
  store <8 x float> %v13, ptr %v14, align 4
  %v15 = getelementptr float, ptr %buf0, i64 %v9
  %v16 = getelementptr float, ptr %v15, i64 8
  %v17 = load <8 x float>, ptr %v16, align 4
  %v18 = fcmp ogt <8 x float> splat (float 0x0000000000000000), %v17
  %v19 = select <8 x i1> %v18, <8 x float> splat (float 0x0000000000000000), <8 x float> %v17
  %v20 = getelementptr float, ptr %buf1, i64 %v9
  %v21 = getelementptr float, ptr %v20, i64 8
  store <8 x float> %v19, ptr %v21, align 4
  %v22 = getelementptr float, ptr %buf0, i64 %v9
  %v23 = getelementptr float, ptr %v22, i64 16
  %v24 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr align 4 %v23, <8 x i1> <i1 true, i1 true, i1 true, i1 true, i1 true, i1 false, i1 false, i1 false>, <8 x float> zeroinitializer)
  %v25 = fcmp ogt <8 x float> splat (float 0x0000000000000000), %v24
  %v26 = select <8 x i1> %v25, <8 x float> splat (float 0x0000000000000000), <8 x float> %v24
  %v27 = getelementptr float, ptr %buf1, i64 %v9
  %v28 = getelementptr float, ptr %v27, i64 16
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v26, ptr align 4 %v28, <8 x i1> <i1 true, i1 true, i1 true, i1 true, i1 true, i1 false, i1 false, i1 false>)
  %v29 = add nuw nsw i64 %v8, 1
  %v30 = icmp slt i64 %v29, %v6
  br i1 %v30, label %loop4, label %done5, !llvm.loop !0
done5:
  %v31 = sub i64 %v5, %v1
  %v32 = add i64 %v1, %v31
  br label %range1
end3:
  ret i32 0
}
